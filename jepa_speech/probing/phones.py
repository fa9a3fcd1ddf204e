"""Task `phones`: the phone spoken at each frame, without silence.

Every feature's mean over the utterance is subtracted, for all systems. The mean carries microphone and voice. On read
speech of unseen speakers, subtracting it gains 4 points for log-mel and 6 for log-mel ±5. Without it, systems that
learned such a normalisation would have an unfair advantage.
"""

from pathlib import Path

import numpy as np

from jepa_speech.features.grid import HOP, SAMPLE_RATE, WINDOW
from jepa_speech.probing import classification as KIND
from jepa_speech.probing.dataset import Utterance, check_seen, read_split
from jepa_speech.probing.linear import RECIPE
from jepa_speech.probing.segments import Phones, Segment
from jepa_speech.probing.splits import SPLITS

__all__ = ["KIND", "RECIPE", "frame_phones", "read", "rows"]

# Labels of aligners and of hand-annotated corpora for silence and noise.
SILENCE = {"", "sil", "sp", "spn", "nsn", "pau", "epi", "h#", "#", "_", "<p:>", "<sil>"}


def frame_phones(segments: list[Segment], frames: int) -> np.ndarray:
    """Returns the phone (T,) at the centre sample, 320t + 200, of each frame t; '' in silence and outside all segments.

    segments: (label, start, end) in seconds, without overlaps.
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
    phones.report_unused()
    check_seen(splits, "phones", spoken)
    return splits


def spoken(segments: list[Segment]) -> list[str]:
    """Returns the labels of all segments that are not silence."""
    return [label for label, _, _ in segments if label.lower() not in SILENCE]


def rows(utterance: Utterance, layers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the frames with a phone (N, L, D) of layers (L, T, D), and their phones (N,)."""
    return spoken_frames(utterance.target, layers)


def spoken_frames(segments: list[Segment], layers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Like `rows`, for a recording with these segments."""
    labels = frame_phones(segments, layers.shape[1])
    spoken = labels != ""
    centred = layers[:, spoken] - layers.mean(1, keepdims=True)
    return centred.swapaxes(0, 1), labels[spoken]
