"""Diagonal Gaussian mixtures: the frozen anchor whose posteriors a model learns to predict.

p(k | x) ∝ exp(log(w_k N(x; μ_k, diag σ_k²)) / τ): the temperature τ divides the log joint, including the weight
(GMM-anchored JEPA, arXiv 2602.09040). Means and variances refer to standardised features z = (x - shift) / scale, for
which expanding the square in float32 loses almost no precision.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech import checked
from jepa_speech.anchors.anchor import Anchor, Arrays
from jepa_speech.errors import UserError
from jepa_speech.features import spectral

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

WEIGHTS_SUM = 1e-3  # how far from 1 the sum of float32 weights may be
_HIGHEST = jax.lax.Precision.HIGHEST


@dataclass(frozen=True, eq=False, kw_only=True)
class DiagonalGMM(Anchor):
    """A mixture of standardised features: means, variances (K, D), weights (K,), float32.

    temperature: divides the log joint.
    """

    means: np.ndarray
    variances: np.ndarray
    weights: np.ndarray
    temperature: float = 1.0

    FORMAT: ClassVar[str] = "jepa_speech diagonal gmm 1"

    @property
    def components(self) -> int:
        return self.means.shape[0]

    def terms(self) -> dict[str, np.ndarray | float]:
        means, variances = self.means.astype(np.float64), self.variances.astype(np.float64)
        constant = np.log(np.maximum(self.weights.astype(np.float64), 1e-30))
        constant -= 0.5 * np.sum(np.log(2 * np.pi * variances) + means**2 / variances, axis=1)
        constant -= np.sum(np.log(self.scale.astype(np.float64)))  # turns the density of z into that of x
        if self.rotation is not None:
            constant += np.linalg.slogdet(self.rotation.astype(np.float64))[1]
        return {
            **self._standardising(),
            "linear": (means / variances).T,  # (D, K)
            "quadratic": (-0.5 / variances).T,  # (D, K)
            "constant": constant,  # (K,)
            "temperature": self.temperature,
        }

    def _check_clusters(self, where: str) -> None:
        checked.array(self.means, f"{where}: means", shape=(None, self.dim))
        checked.array(self.variances, f"{where}: variances", shape=self.means.shape, above=0)
        checked.array(self.weights, f"{where}: weights", shape=self.means.shape[:1], least=0)
        checked.array(self.temperature, f"{where}: temperature", shape=(), kind="fiu", above=0)
        if self.components and abs((total := self.weights.sum(dtype=np.float64)) - 1) > WEIGHTS_SUM:
            raise UserError(f"{where}: weights sum to {total:g}, not to 1; fit it again")

    def to_sklearn(self) -> "GaussianMixture":
        """Returns the mixture of unstandardised features, at temperature 1. Raises ValueError if it has a rotation."""
        from sklearn.mixture import GaussianMixture

        if self.rotation is not None:
            raise ValueError("a diagonal mixture of rotated features is not diagonal in the original features")
        scale = self.scale.astype(np.float64)
        mixture = GaussianMixture(self.components, covariance_type="diag")
        mixture.weights_ = self.weights.astype(np.float64) / self.weights.sum(dtype=np.float64)
        mixture.means_ = self.means * scale + self.shift
        mixture.covariances_ = self.variances * scale**2
        mixture.precisions_cholesky_ = 1 / np.sqrt(mixture.covariances_)
        mixture.precisions_ = 1 / mixture.covariances_
        mixture.n_features_in_ = self.dim
        mixture.converged_, mixture.n_iter_, mixture.lower_bound_ = True, 0, -np.inf
        return mixture


def from_sklearn(
    mixture: "GaussianMixture", features: str, normalize: str = "level", temperature: float = 1.0
) -> DiagonalGMM:
    """Makes an anchor of a fitted `GaussianMixture(covariance_type="diag")` of unstandardised features.

    Features are standardised by the mean and the variance of the mixture. Raises UserError for other covariance types.
    """
    if mixture.covariance_type != "diag":
        raise UserError(f"a diagonal mixture was expected, not covariance_type={mixture.covariance_type!r}")
    shift = mixture.weights_ @ mixture.means_
    spread = mixture.weights_ @ (mixture.covariances_ + (mixture.means_ - shift) ** 2)
    scale = np.sqrt(spread)
    arrays = {
        "means": (mixture.means_ - shift) / scale,
        "variances": mixture.covariances_ / spread,
        "weights": mixture.weights_,
        "shift": shift,
        "scale": scale,
    }
    arrays = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    return DiagonalGMM(**arrays, features=features, normalize=normalize, temperature=temperature)


def log_joint(arrays: Arrays, x: jax.Array) -> jax.Array:
    """Returns log w_k N(x; μ_k, diag σ_k²) at temperature 1: (…, D) -> (…, K). The expanded square is one matmul."""
    z = (x.astype(jnp.float32) - arrays["shift"]) / arrays["scale"]
    if "rotation" in arrays:
        z = jnp.matmul(z, arrays["rotation"], precision=_HIGHEST)
    # One matmul instead of two, because each pass over (…, K) takes as long as a matmul of this depth.
    powers = jnp.concatenate([z, jnp.square(z)], axis=-1)  # (…, 2D)
    factors = jnp.concatenate([arrays["linear"], arrays["quadratic"]])  # (2D, K)
    return jnp.matmul(powers, factors, precision=_HIGHEST) + arrays["constant"]


def posteriors(arrays: Arrays, x: jax.Array, temperature: float | jax.Array | None = None) -> jax.Array:
    """Returns p(k | x) of unstandardised features: (…, D) -> (…, K), at the anchor's temperature by default.

    At temperature 0 (k-means) posteriors are one-hot; tied components share equally.
    """
    temperature = arrays["temperature"] if temperature is None else temperature
    joint = log_joint(arrays, x)  # (…, K)
    # A jax.lax.cond for temperature 0 would prevent fusion and take twice as long. Divided by 1e-30 instead, every
    # difference from the largest has an exponential of 0.
    below = joint - joint.max(-1, keepdims=True)
    odds = jnp.exp(below / jnp.maximum(temperature, 1e-30))
    return odds / odds.sum(-1, keepdims=True)


def frame_posteriors(
    arrays: Arrays,
    kind: str,
    audio: jax.Array,
    mean: jax.Array | None = None,
    lengths: jax.Array | None = None,
) -> jax.Array:
    """Returns posteriors (…, T, K) of audio. Stored labels and online labels both come from here.

    kind: spectral features of the anchor · audio (…, S) with RMS 1 · mean (…, D): mean feature vectors of the
    recordings, for an anchor with normalize="mean" · lengths (…): valid samples of padded rows.
    """
    x = spectral.extract(kind, audio, lengths)  # (…, T, D)
    if mean is not None:
        x = x - mean[..., None, :]
    return posteriors(arrays, x)
