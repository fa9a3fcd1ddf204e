"""Suffixes of audio: those that are read, refused by name, or counted."""

import soundfile

# What libsndfile calls the format of each. Formats of music software are missing, and so are suffixes that often name
# something else (.mat, .htk, .raw).
FORMATS = {
    ".wav": "WAV", ".wave": "WAV", ".w64": "W64", ".rf64": "RF64", ".flac": "FLAC",
    ".ogg": "OGG", ".oga": "OGG", ".opus": "OGG", ".mp3": "MP3",
    ".aif": "AIFF", ".aiff": "AIFF", ".aifc": "AIFF", ".au": "AU", ".snd": "AU", ".caf": "CAF",
    ".sph": "NIST", ".nist": "NIST", ".wv1": "NIST", ".wv2": "NIST", ".voc": "VOC",
}  # fmt: skip
SUFFIXES = tuple(suffix for suffix, name in FORMATS.items() if name in soundfile.available_formats())
# Listed so that they are refused by name; passing them over would look as if all was well.
REFUSED_SUFFIXES = (".m4a", ".aac", ".wma", ".amr", *(suffix for suffix in FORMATS if suffix not in SUFFIXES))
# Audio that is not read, and video that may hold audio: counted, because many corpora have such files.
UNREAD_SUFFIXES = (
    ".3gp", ".ac3", ".alac", ".ape", ".avi", ".awb", ".dff", ".dsf", ".gsm", ".m4b", ".m4v", ".mka", ".mkv", ".mov",
    ".mp2", ".mp4", ".mpg", ".pcm", ".ra", ".raw", ".shn", ".spx", ".tta", ".vox", ".weba", ".webm", ".wv",
)  # fmt: skip
