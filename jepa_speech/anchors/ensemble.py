"""Several anchors as one target: their posteriors are weighted and concatenated.

    q(m, k) = w_m q_m(k)      KL(q ‖ p) = KL(w ‖ p(m)) + Σ_m w_m KL(q_m ‖ p(· | m))

One softmax over all Σ K_m components thus learns each member's posterior, in proportion to its weight. Posteriors are
not averaged, because component k of one fit does not correspond to component k of another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from jepa_speech.anchors.anchor import Anchor
from jepa_speech.anchors.load import load_anchor
from jepa_speech.errors import UsageError
from jepa_speech.path_lists import weighted_paths


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Anchors with weights that sum to 1. Has the properties of an `Anchor` that training uses."""

    members: Sequence[Anchor]
    weights: Sequence[float]

    @property
    def components(self) -> int:
        """Σ K."""
        return sum(member.components for member in self.members)

    @property
    def features(self) -> str:
        return " + ".join(member.features for member in self.members)

    @property
    def normalize(self) -> str:
        return " + ".join(member.normalize for member in self.members)

    @property
    def max_top_k(self) -> int:
        return sum(member.max_top_k for member in self.members)

    @cached_property
    def fingerprint(self) -> str:
        """The members' fingerprints and weights: `FINGERPRINT:WEIGHT,...`."""
        pairs = zip(self.members, self.weights, strict=True)
        return ",".join(f"{member.fingerprint}:{weight!r}" for member, weight in pairs)


def open_anchors(text: str) -> Anchor | Ensemble:
    """Opens what config key `anchor.path` names: one file, or `FILE:WEIGHT,FILE:WEIGHT,...`.

    Raises UsageError for a weight that is not a positive number, and for two files of the same anchor.
    """
    found = weighted_paths(text, "anchor.path")
    members = [load_anchor(path) for path, _ in found]
    if len(members) == 1:
        return members[0]
    prints = [member.fingerprint for member in members]
    for i, (path, _) in enumerate(found):
        if prints[i] in prints[:i]:
            before = found[prints.index(prints[i])][0]
            raise UsageError(f"config key anchor.path: {path} and {before} are the same anchor; name one of them")
    total = sum(weight for _, weight in found)
    return Ensemble(members, [weight / total for _, weight in found])
