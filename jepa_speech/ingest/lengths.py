"""Limits on the length of recordings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jepa_speech.errors import UsageError
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.ingest.audio_source import Rejected
from jepa_speech.wording import counted


@dataclass(frozen=True)
class Lengths:
    """Recordings of `shortest` to `longest` samples are used. longest: 0 for any length."""

    shortest: int = 0
    longest: int = 0

    @classmethod
    def of(cls, min_seconds: float, max_seconds: float) -> "Lengths":
        return cls(round(min_seconds * SAMPLE_RATE), round(max_seconds * SAMPLE_RATE))

    def hold(self, samples: np.ndarray) -> np.ndarray:
        """Returns a mask (N,) of the recordings that are used, from their lengths (N,) in samples."""
        held = samples >= self.shortest
        return held & (samples <= self.longest) if self.longest else held

    def left_out(self, samples: np.ndarray, named: Callable[[int], str]) -> list[dict[str, Any]]:
        """Returns a summary of the recordings left out, from their lengths (N,) in samples.

        It has a dict for too short recordings and one for too long ones, if there are any. Their fields are
        `shorter_than` or `longer_than` (s), `recordings`, `seconds` (in total), `first` (its name, by named(i)).
        """
        sides = {"shorter_than": samples < self.shortest}
        if self.longest:
            sides["longer_than"] = samples > self.longest
        limits = {"shorter_than": self.shortest, "longer_than": self.longest}
        return [
            {
                name: limits[name] / SAMPLE_RATE,
                "recordings": int(np.count_nonzero(out)),
                "seconds": round(float(samples[out].sum()) / SAMPLE_RATE, 3),
                "first": named(int(np.argmax(out))),
            }
            for name, out in sides.items()
            if out.any()
        ]

    def check(self, seconds: float) -> None:
        """Raises Rejected (too_short, too_long), naming the option of `prepare`, if a recording is not used."""
        if round(seconds * SAMPLE_RATE) < self.shortest:
            raise Rejected("too_short", f"{seconds:.3f} s, but min_seconds is {self.shortest / SAMPLE_RATE:g}")
        if self.longest and round(seconds * SAMPLE_RATE) > self.longest:
            raise Rejected("too_long", f"{seconds:.3f} s, but max_seconds is {self.longest / SAMPLE_RATE:g}")

    def asked_for(self, reason: str) -> bool:
        """Whether the user asked to reject recordings for this reason; they are then no sign of bad inputs."""
        return bool({"too_short": self.shortest, "too_long": self.longest}.get(reason))


EVERY = Lengths()


def check_seconds(min_seconds: float, max_seconds: float, what: str) -> None:
    """Raises UsageError, beginning with `what`, unless these are valid limits of length (0: no limit)."""
    if not (0 <= min_seconds < 1e6 and 0 <= max_seconds < 1e6) or 0 < max_seconds < min_seconds:
        raise UsageError(
            f"{what} = {min_seconds:g}, {max_seconds:g}: both must be 0 or more, and the longest at least the shortest"
        )


def in_words(found: dict[str, Any]) -> str:
    """Returns one item of `left_out` as a line."""
    side, why = (
        ("longer", "data.max_seconds")
        if "longer_than" in found
        else ("shorter", "the objective's minimum, or data.min_seconds")
    )
    return (
        f"left out: {counted(found['recordings'], 'recording')} ({found['seconds']:.1f} s) {side} than "
        f"{found[f'{side}_than']:g} s ({why}); the first: {found['first']}"
    )
