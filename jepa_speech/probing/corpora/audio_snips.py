"""SUPERB's Audio SNIPS (Lai et al. 2021): ROOT/all.iob.snips.txt and ROOT/{train,valid,test}/**/NAME.{wav,mp3}.

A line is `NAME BOS words EOS`, a tab, and a tag for each word; the tag of EOS is the intent. Names begin with the
voice. The voices of a split are SUPERB's.
"""

from pathlib import Path

from jepa_speech.probing.corpora.listing import Rows, another_form, by_split, files, numbered_lines

TASKS = ("slots", "intent", "asr")
VOICES = {
    "train": ("Ivy", "Joanna", "Joey", "Justin", "Kendra", "Kimberly", "Matthew", "Salli"),
    "valid": ("Aditi", "Amy", "Geraint", "Nicole"),
    "test": ("Brian", "Emma", "Raveena", "Russell"),
}


def manifests(root: Path, out: Path) -> dict[str, Rows]:
    path, known = root / "all.iob.snips.txt", {}
    for number, line in numbered_lines(path):
        spoken, _, tags = line.partition("\t")
        name, *words = spoken.split()
        if len(words) != len(tags.split()) or len(words) < 3:
            raise another_form(path, number, line, "'NAME BOS words EOS', a tab and as many tags")
        *slots, intent = tags.split()
        known[name] = {"text": " ".join(words[1:-1]), "slot_tags": slots[1:], "intent": intent}
    rows: dict[str, Rows] = {}
    for split, voices in VOICES.items():
        clips = [clip for clip in files(root / split, "**/*") if clip.suffix in (".wav", ".mp3")]
        rows[split] = [
            {"audio_path": clip, "speaker": clip.stem.split("-")[0], **known[clip.stem]}
            for clip in clips
            if clip.stem in known and clip.stem.split("-")[0] in voices
        ]
    return by_split(rows)
