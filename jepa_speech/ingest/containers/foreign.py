"""Containers and codecs that libsndfile does not read, recognised by their first bytes, with advice."""

FFMPEG = "convert it: ffmpeg -i IN OUT.flac"
STARTS = {
    b"#!AMR": "AMR",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "Windows Media (wma)",
    b"\x1a\x45\xdf\xa3": "Matroska or WebM",
    b"\xff\xf1": "AAC",
    b"\xff\xf9": "AAC",
    b"ADIF": "AAC",
    b"wvpk": "WavPack",
    b"MAC ": "Monkey's Audio (ape)",
    b"TTA1": "TTA",
    b"ajkg": "Shorten",
    b"FLV": "Flash video",
    b".RMF": "RealAudio",
    b".ra\xfd": "RealAudio",
    b"\x0b\x77": "AC-3",
    b"DSD ": "DSD",
    b"FRM8": "DSD",
}
MPEG4 = b"ftyp"  # from byte 4 on


def named(head: bytes) -> str:
    """Returns the type of a file and what to do; "" if it is none of these. head: its first bytes, up to 1 kB.

    A SPHERE file with packed samples has a plain header, in which sample_coding names Shorten.
    """
    if head.startswith(b"NIST_1A") and b"shorten" in head:
        return "NIST SPHERE packed by Shorten, which is not read; convert it: sph2pipe -f wav IN OUT.wav"
    kind = "MPEG-4 (m4a, mp4)" if head[4:8] == MPEG4 else ""
    kind = kind or next((kind for start, kind in STARTS.items() if head.startswith(start)), "")
    if head.startswith(b"OggS") and b"Speex   " in head[:64]:
        kind = "Ogg Speex"
    return f"{kind}, which is not read; {FFMPEG}" if kind else ""
