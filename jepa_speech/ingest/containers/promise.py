"""The properties of the decoded samples that a container promises."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Promise:
    """Expected properties of the decoded samples; None if the container does not give them."""

    frames: int | None = None  # at the file's own rate
    seconds: float | None = None
    md5: bytes | None = None  # of the samples as little-endian integers of `bits`
    bits: int = 16
