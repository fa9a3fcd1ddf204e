"""Checks of a container's own sizes, checksums and counts, before decoding.

libsndfile does not report a WAV that ends early, an Ogg page with a wrong checksum, or an MP3 without its end.
"""

from jepa_speech.ingest.audio_source import Window
from jepa_speech.ingest.containers import flac, mp3, ogg, sized, wav
from jepa_speech.ingest.containers.promise import Promise


def check(file: Window) -> Promise:
    """Checks a container, recognised by its first bytes; returns what it promises of the samples.

    An unknown container promises nothing.

    Raises Rejected: truncated, bad_length, damaged, empty, refused.
    """
    for kind in (wav, ogg, flac, sized, mp3):
        if kind.is_it(file):
            return kind.check(file)
    return Promise()


def complete(file: Window) -> None:
    """Replaces the header by one with the right length, if libsndfile would assume a shorter one."""
    for kind in (wav, mp3):
        if kind.is_it(file):
            kind.complete(file)
            return
