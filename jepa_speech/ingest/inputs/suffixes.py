"""Suffixes of audio files: those that are read, those that are refused, and those that are counted as left out."""

import soundfile

# libsndfile's name of each format. Formats of music software are left out, and suffixes that often name other files
# (.mat, .htk, .raw).
FORMATS = {
    ".wav": "WAV", ".wave": "WAV", ".w64": "W64", ".rf64": "RF64", ".flac": "FLAC",
    ".ogg": "OGG", ".oga": "OGG", ".opus": "OGG", ".mp3": "MP3", ".mp2": "MP3", ".mp1": "MP3", ".mpga": "MP3",
    ".aif": "AIFF", ".aiff": "AIFF", ".aifc": "AIFF", ".au": "AU", ".snd": "AU", ".caf": "CAF",
    ".sph": "NIST", ".nist": "NIST", ".wv1": "NIST", ".wv2": "NIST", ".voc": "VOC",
}  # fmt: skip
SUFFIXES = tuple(suffix for suffix, name in FORMATS.items() if name in soundfile.available_formats())
# Listed and refused one by one, because a user would not notice that they were skipped.
REFUSED_SUFFIXES = (".m4a", ".aac", ".wma", ".amr", *(suffix for suffix in FORMATS if suffix not in SUFFIXES))
# Audio that is not read, and video that may hold audio: counted, because many corpora have such files.
UNREAD_SUFFIXES = (
    ".3gp", ".8svx", ".ac3", ".alac", ".ape", ".asf", ".avi", ".avr", ".awb", ".dff", ".dsf", ".eac3", ".flv", ".gsm",
    ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp4", ".mpc", ".mpeg", ".mpg", ".ogm", ".ogv", ".pcm", ".pvf", ".qcp",
    ".ra", ".raw", ".sd2", ".shn", ".spx", ".svx", ".tta", ".vox", ".weba", ".webm", ".wmv", ".wv",
)  # fmt: skip
