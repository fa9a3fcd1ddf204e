"""What a container says about itself, checked before anything is decoded: sizes, checksums, counts.

libsndfile passes over much of it in silence: a WAV that ends early, a page of Ogg whose checksum is wrong, an MP3
without its end.
"""

from jepa_speech.ingest.audio_source import Window
from jepa_speech.ingest.containers import flac, mp3, ogg, sized, wav
from jepa_speech.ingest.containers.promise import Promise


def check(file: Window) -> Promise:
    """Looks through a container, known by its first bytes; one of no kind known here promises nothing.

    Raises Rejected: truncated, bad_length, damaged, empty, refused.
    """
    for kind in (wav, ogg, flac, sized, mp3):
        if kind.is_it(file):
            return kind.check(file)
    return Promise()


def complete(file: Window) -> None:
    """Presents a header with the right length if libsndfile would guess a shorter one and stop there."""
    for kind in (wav, mp3):
        if kind.is_it(file):
            kind.complete(file)
            return
