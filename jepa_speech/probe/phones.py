"""Task `phones`: which phone is spoken at each frame? Silence is left out.

Every feature loses its mean over the utterance, whatever the system. The microphone and the voice stand in that
mean; on read speech of unseen speakers this is worth 4 points to log-mel and 6 to log-mel ±5, so a comparison
without it would flatter whatever learned to do it by itself.
"""

from pathlib import Path

import numpy as np

from jepa_speech.features.grid import HOP, SAMPLE_RATE, WINDOW
from jepa_speech.probe import classification as KIND
from jepa_speech.probe.dataset import Utterance, check_seen, read_split
from jepa_speech.probe.linear import RECIPE
from jepa_speech.probe.segments import Phones, Segment
from jepa_speech.probe.splits import SPLITS

__all__ = ["KIND", "RECIPE", "frame_phones", "read", "rows"]

# How aligners and hand-made corpora write silence, noise and "nothing here".
SILENCE = {"", "sil", "sp", "spn", "nsn", "pau", "epi", "h#", "#", "_", "<p:>", "<sil>"}


def frame_phones(segments: list[Segment], frames: int) -> np.ndarray:
    """The phone at the centre sample, 320t + 200, of each frame t; '' in silence and outside all segments.

    `segments` are (label, start, end) in seconds and do not overlap. Returns (T,) strings.
    """
    spoken = sorted((s for s in segments if s[0].lower() not in SILENCE), key=lambda segment: segment[1:])
    if not spoken:
        return np.full(frames, "", dtype="<U8")
    labels = np.array([label for label, _, _ in spoken])
    starts, ends = np.array([[start, end] for _, start, end in spoken]).T
    centres = (np.arange(frames) * HOP + WINDOW // 2) / SAMPLE_RATE
    at = np.searchsorted(starts, centres, side="right") - 1
    return np.where((at >= 0) & (centres < ends[at]), labels[at], "")


def read(folder: Path, root: str | Path | None = None) -> dict[str, list[Utterance]]:
    manifests = {split: read_split(folder, split, root=root) for split in SPLITS}
    phones = Phones(folder, root)
    splits = {split: phones.of(utterances) for split, utterances in manifests.items()}
    phones.tell_unused()
    check_seen(splits, "phones", spoken)
    return splits


def spoken(segments: list[Segment]) -> list[str]:
    """The labels of all segments that are not silence."""
    return [label for label, _, _ in segments if label.lower() not in SILENCE]


def rows(utterance: Utterance, layers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Layers (L, T, D) -> the frames that hold a phone (N, L, D), and their phones (N,)."""
    return spoken_frames(utterance.target, layers)


def spoken_frames(segments: list[Segment], layers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `rows`, of a recording with these segments."""
    labels = frame_phones(segments, layers.shape[1])
    spoken = labels != ""
    centred = layers[:, spoken] - layers.mean(1, keepdims=True)
    return centred.swapaxes(0, 1), labels[spoken]
