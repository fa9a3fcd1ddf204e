"""k-means centroids as an anchor: a hard label for each frame (HuBERT, arXiv 2106.07447, section II-A).

The nearest centroid is the component of largest posterior in a mixture of equal weights and one spherical variance,
and k-means is the limit of that mixture as its variance goes to 0 (Bishop 2006, section 9.3.2). Centroids therefore use
the functions of a mixture, at temperature 0: `gmm.log_joint` is -‖z - μ_k‖² / 2 plus a constant per frame, and
`gmm.posteriors` is one-hot.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from jepa_speech import checked
from jepa_speech.anchors.anchor import Anchor

if TYPE_CHECKING:
    import sklearn.cluster


@dataclass(frozen=True, eq=False, kw_only=True)
class KMeans(Anchor):
    """centroids (K, D) float32 of standardised features; distances are Euclidean in them."""

    centroids: np.ndarray

    FORMAT: ClassVar[str] = "jepa_speech k-means 1"

    @property
    def components(self) -> int:
        return self.centroids.shape[0]

    @property
    def max_top_k(self) -> int:
        return 1

    def terms(self) -> dict[str, np.ndarray | float]:
        centroids = self.centroids.astype(np.float64)
        return self._standardising() | {
            "linear": centroids.T,  # (D, K)
            "quadratic": np.zeros_like(centroids.T),  # -‖z‖² / 2 is the same for all k and left out
            "constant": -0.5 * np.sum(centroids**2, axis=1),  # (K,)
            "temperature": 0.0,
        }

    def _check_clusters(self, where: str) -> None:
        checked.array(self.centroids, f"{where}: centroids", shape=(None, self.dim))

    def to_sklearn(self) -> "sklearn.cluster.KMeans":
        """Returns the same clusters for unstandardised features. Raises ValueError if distances differ in them."""
        from sklearn.cluster import KMeans as Estimator

        if np.ptp(self.scale) or self.rotation is not None:
            raise ValueError("distances of these standardised features are not Euclidean in the unstandardised ones")
        estimator = Estimator(self.components)
        estimator.cluster_centers_ = self.centroids.astype(np.float64) * self.scale + self.shift
        estimator.n_features_in_, estimator._n_threads = self.dim, 1
        return estimator


def from_sklearn(
    estimator: "sklearn.cluster.KMeans | sklearn.cluster.MiniBatchKMeans", features: str, normalize: str = "level"
) -> KMeans:
    """Makes an anchor of fitted centroids of unstandardised features. Their mean is subtracted; distances stay."""
    shift = estimator.cluster_centers_.mean(axis=0)
    arrays = {"centroids": estimator.cluster_centers_ - shift, "shift": shift, "scale": np.ones_like(shift)}
    arrays = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    return KMeans(**arrays, features=features, normalize=normalize)
