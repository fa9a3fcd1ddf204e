"""Diagonal Gaussian mixtures: the frozen anchor whose posteriors a model learns to predict.

p(k | x) ∝ exp(log(w_k N(x; μ_k, diag σ_k²)) / τ): the temperature τ divides the joint, weight included
(GMM-anchored JEPA, arXiv 2602.09040). Means and variances live in standardised features z = (x - shift) / scale,
where the float32 expansion of the square below loses next to nothing.
"""

import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.errors import UserError
from jepa_speech.features import spectral
from jepa_speech.files import replacing, sha256_arrays

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

Arrays = dict[str, jax.Array]

NORMALIZE = ("level", "mean")
_FORMAT = "jepa_speech diagonal gmm 1"
_ARRAYS = ("means", "variances", "weights", "shift", "scale")
_HIGHEST = jax.lax.Precision.HIGHEST


@dataclass(frozen=True, eq=False)
class DiagonalGMM:
    """A mixture over one kind of features.

    means, variances (K, D), weights (K,): float32, standardised · shift, scale (D,): float32, of the features
    features: "logmel" | "mfcc" · normalize: "level" (audio at level 1), or "mean" (also less the utterance's
    mean feature vector) · temperature: divides the log joint.
    """

    means: np.ndarray
    variances: np.ndarray
    weights: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    features: str
    normalize: str = "level"
    temperature: float = 1.0

    @property
    def components(self) -> int:
        return self.means.shape[0]

    @property
    def dim(self) -> int:
        return self.means.shape[1]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that shapes a posterior."""
        return sha256_arrays(self._contents())

    def arrays(self) -> Arrays:
        """What `log_joint` needs, as jax arrays: a pytree to close over, or to pass through jit."""
        means, variances = self.means.astype(np.float64), self.variances.astype(np.float64)
        constant = np.log(np.maximum(self.weights.astype(np.float64), 1e-30))
        constant -= 0.5 * np.sum(np.log(2 * np.pi * variances) + means**2 / variances, axis=1)
        constant -= np.sum(np.log(self.scale.astype(np.float64)))  # a density of x, not of z
        arrays = {
            "shift": self.shift,
            "scale": self.scale,
            "linear": (means / variances).T,  # (D, K)
            "quadratic": (-0.5 / variances).T,  # (D, K)
            "constant": constant,  # (K,)
            "temperature": self.temperature,
        }
        return {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}

    def save(self, path: str | Path) -> None:
        """Writes an npz, whole or not at all."""
        with replacing(path) as file:
            np.savez(file, format=_FORMAT, **self._contents())

    def to_sklearn(self) -> "GaussianMixture":
        """The same mixture (at temperature 1) over unstandardised features."""
        from sklearn.mixture import GaussianMixture

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

    def _contents(self) -> dict[str, np.ndarray]:
        contents = {name: getattr(self, name) for name in _ARRAYS}
        contents["temperature"] = np.float64(self.temperature)
        contents |= {name: np.array(getattr(self, name)) for name in ("features", "normalize")}
        return contents


def from_sklearn(
    mixture: "GaussianMixture", features: str, normalize: str = "level", temperature: float = 1.0
) -> DiagonalGMM:
    """From a fitted `GaussianMixture(covariance_type="diag")` over unstandardised features.

    They are standardised by the mean and the variance that the mixture itself implies.
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


def load_gmm(path: str | Path) -> DiagonalGMM:
    """Raises UserError, naming the file, if it is missing, broken, or holds something else."""
    try:
        with Path(path).open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as arrays:
            contents = {name: arrays[name] for name in arrays.files}
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such anchor; make it with `jepa-speech fit gmm`") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: not an anchor, or broken; make it again with `jepa-speech fit gmm`") from error
    if str(contents.get("format")) != _FORMAT:
        raise UserError(f"{path}: not a mixture of this program; make one with `jepa-speech fit gmm`")
    texts: dict[str, Any] = {name: str(contents[name]) for name in ("features", "normalize")}
    return DiagonalGMM(
        **{name: contents[name] for name in _ARRAYS}, **texts, temperature=float(contents["temperature"])
    )


def log_joint(arrays: Arrays, x: jax.Array) -> jax.Array:
    """log w_k N(x; μ_k, diag σ_k²) at temperature 1: (…, D) -> (…, K). The square is expanded: two matmuls."""
    z = (x.astype(jnp.float32) - arrays["shift"]) / arrays["scale"]
    joint = jnp.matmul(z, arrays["linear"], precision=_HIGHEST)
    joint += jnp.matmul(jnp.square(z), arrays["quadratic"], precision=_HIGHEST)
    return joint + arrays["constant"]


def posteriors(arrays: Arrays, x: jax.Array, temperature: float | jax.Array | None = None) -> jax.Array:
    """p(k | x) of unstandardised features: (…, D) -> (…, K), at the anchor's own temperature by default."""
    temperature = arrays["temperature"] if temperature is None else temperature
    return jax.nn.softmax(log_joint(arrays, x) / temperature, axis=-1)


def frame_posteriors(
    arrays: Arrays,
    kind: str,
    audio: jax.Array,
    mean: jax.Array | None = None,
    lengths: jax.Array | None = None,
) -> jax.Array:
    """From audio to posteriors, the one path by which labels are stored and computed online.

    audio (…, S) at level 1 · mean (…, D), the utterances' mean feature vectors, for an anchor with
    normalize="mean" · lengths (…), valid samples of padded rows -> (…, T, K).
    """
    x = spectral.extract(kind, audio, lengths)  # (…, T, D)
    if mean is not None:
        x = x - mean[..., None, :]
    return posteriors(arrays, x)
