"""What a container promises of its samples."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Promise:
    """What the samples must be like once they are decoded; None where the container does not say."""

    frames: int | None = None  # at the file's own rate
    seconds: float | None = None
    md5: bytes | None = None  # of the samples as little-endian integers of `bits`
    bits: int = 16
