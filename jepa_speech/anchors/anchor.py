"""The base class of anchors: standardisation of features, fingerprint, and file format."""

import re
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech import checked
from jepa_speech.errors import UserError
from jepa_speech.features.spectral import DIMS
from jepa_speech.files import replacing, sha256_arrays
from jepa_speech.ownership import claim

Arrays = dict[str, jax.Array]

NORMALIZE = ("level", "mean")
LEAST_SCALE = 1e-12  # below it, squares of standardised features exceed float32; fits give at least 1e-6
SAVED = "jepa_speech ".encode("utf-32-le")  # the beginning of an anchor's format, by which `claim` recognises its file


@dataclass(frozen=True, eq=False, kw_only=True)
class Anchor:
    """K clusters of standardised features z = (x - shift) / scale, or z R if there is a rotation R.

    shift, scale (D,) float32 · rotation (D, D) float32: whitens "pca" features, None for others
    features: a kind of `features/spectral.py`, or "layer:N" of a checkpoint
    normalize: "level" (audio has RMS 1), or "mean" (also, the mean feature vector of the recording is subtracted)
    checkpoint: run folder of a "layer:N" at the time of the fit · checkpoint_fingerprint: hash of its weights
    Both are "" for spectral features.
    """

    shift: np.ndarray
    scale: np.ndarray
    features: str
    normalize: str = "level"
    checkpoint: str = ""
    checkpoint_fingerprint: str = ""
    rotation: np.ndarray | None = None

    FORMAT: ClassVar[str]

    @property
    def components(self) -> int:
        """K."""
        raise NotImplementedError

    @property
    def dim(self) -> int:
        return len(self.shift)

    @property
    def max_top_k(self) -> int:
        """The largest number of components that labels keep per frame."""
        return self.components

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything that determines posteriors."""
        return sha256_arrays(self._contents())

    def arrays(self) -> Arrays:
        """Returns the arguments of `gmm.log_joint`: a pytree of float32 arrays."""
        return {name: jnp.asarray(value, jnp.float32) for name, value in self.terms().items()}

    def terms(self) -> dict[str, np.ndarray | float]:
        """Returns the terms of `arrays` as NumPy values, before rounding to float32."""
        raise NotImplementedError

    def _standardising(self) -> dict[str, np.ndarray]:
        """The terms that take x to z. A "pca" anchor without a rotation gets the identity."""
        kept = {"shift": self.shift, "scale": self.scale}
        if self.rotation is None and self.features != "pca":
            return kept
        return kept | {"rotation": np.eye(self.dim) if self.rotation is None else self.rotation}

    def save(self, path: str | Path) -> None:
        """Writes an npz file atomically. Raises UserError if the path holds a file that is not an anchor."""
        contents: dict[str, Any] = {"format": np.array(self.FORMAT), **self._contents()}
        if self.checkpoint:
            contents["checkpoint"] = np.array(self.checkpoint)
        with replacing(claim(path, SAVED)) as file:
            np.savez(file, **contents)

    def check(self, where: str) -> None:
        """Raises UserError, naming the file `where` and the array, if posteriors cannot be computed from the values."""
        checked.array(self.shift, f"{where}: shift", shape=(None,))
        checked.array(self.scale, f"{where}: scale", shape=(self.dim,), above=LEAST_SCALE)
        if self.rotation is not None:
            checked.array(self.rotation, f"{where}: rotation", shape=(self.dim, self.dim))
        elif self.features == "pca":
            raise UserError(f"{where}: the array rotation is missing, which pca features need; fit it again")
        self._check_clusters(where)
        if not self.components:
            raise UserError(f"{where}: the anchor has no components; fit it again")
        if self.normalize not in NORMALIZE:
            raise UserError(
                f"{where}: normalize is {self.normalize!r}, not one of {', '.join(NORMALIZE)}; fit it again"
            )
        if self.features not in DIMS and not re.fullmatch(r"layer:[0-9]{1,6}", self.features):
            raise UserError(
                f"{where}: features are {self.features!r}, not one of {', '.join(DIMS)}, layer:N; fit it again"
            )
        if DIMS.get(self.features, self.dim) != self.dim:
            raise UserError(
                f"{where}: features are {self.features}, which has {DIMS[self.features]} dimensions, not {self.dim}; "
                "fit it again"
            )
        if (self.features in DIMS) == bool(self.checkpoint_fingerprint):
            raise UserError(
                f"{where}: checkpoint_fingerprint is {self.checkpoint_fingerprint!r} and features are {self.features}: "
                "features of a layer have one, others have none; fit it again"
            )
        with np.errstate(all="ignore"):
            terms = {name: np.asarray(value, np.float32) for name, value in self.terms().items()}
        if wrong := [name for name, value in terms.items() if not np.isfinite(value).all()]:
            raise UserError(f"{where}: its {wrong[0]} term is not finite; fit it again")

    def _check_clusters(self, where: str) -> None:
        """The checks of `check` that are specific to a kind of anchor."""
        raise NotImplementedError

    def _contents(self) -> dict[str, np.ndarray]:
        """All fields except `checkpoint`; an empty checkpoint_fingerprint and a missing rotation are left out."""
        contents = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "checkpoint"}
        if not self.checkpoint_fingerprint:
            del contents["checkpoint_fingerprint"]
        if self.rotation is None:
            del contents["rotation"]
        return {name: np.asarray(value) for name, value in contents.items()}
