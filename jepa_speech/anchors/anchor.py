"""What all anchors have in common: the features they live in, a fingerprint, and their file."""

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np

from jepa_speech.files import replacing, sha256_arrays

Arrays = dict[str, jax.Array]

NORMALIZE = ("level", "mean")


@dataclass(frozen=True, eq=False, kw_only=True)
class Anchor:
    """K clusters over one kind of features, standardised: z = (x - shift) / scale, and z R where there is a rotation R.

    shift, scale (D,) float32 · rotation (D, D) float32, of "pca" features: it whitens
    features: a kind of `features/spectral.py`, or "layer:N" of a checkpoint
    normalize: "level" (audio at level 1), or "mean" (also less the utterance's mean feature vector)
    checkpoint: where the run of a "layer:N" lay · checkpoint_fingerprint: the hash of its weights, "" for spectral
    features.
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
        """How many components may be kept of a frame's posterior."""
        return self.components

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that shapes a posterior."""
        return sha256_arrays(self._contents())

    def arrays(self) -> Arrays:
        """What `gmm.log_joint` needs, as jax arrays: a pytree to close over, or to pass through jit."""
        raise NotImplementedError

    def _standardising(self) -> dict[str, np.ndarray]:
        """What takes x to z, for `arrays`; of "pca" features a blank anchor has a rotation too."""
        kept = {"shift": self.shift, "scale": self.scale}
        if self.rotation is None and self.features != "pca":
            return kept
        return kept | {"rotation": np.eye(self.dim) if self.rotation is None else self.rotation}

    def save(self, path: str | Path) -> None:
        """Writes an npz, whole or not at all."""
        contents = {"format": np.array(self.FORMAT), **self._contents()}
        if self.checkpoint:
            contents["checkpoint"] = np.array(self.checkpoint)
        with replacing(path) as file:
            np.savez(file, **contents)

    def _contents(self) -> dict[str, np.ndarray]:
        """All fields but where the checkpoint lay; one that spectral features do not have is left out."""
        contents = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "checkpoint"}
        if not self.checkpoint_fingerprint:
            del contents["checkpoint_fingerprint"]
        if self.rotation is None:
            del contents["rotation"]
        return {name: np.asarray(value) for name, value in contents.items()}
