"""Where a folder of labelled recordings has the manifest of a split, in whatever kind."""

import re
from pathlib import Path

from jepa_speech.errors import UserError

SPLITS = ("train", "valid", "test")
# What corpora and toolkits call the split that chooses settings.
NAMES = {"train": "train", "valid": "valid|dev|validation|val", "test": "test"}
SUFFIXES = r"\.(?:(?:jsonl|ndjson|json|tsv|csv|list)(?:\.gz)?|tar|parquet)"
# In order of precedence: our names, plain ones, Lhotse's, the shards of Hugging Face (all of which are the split), a
# folder.
SHARDS, FOLDER = r"{name}-\d+-of-\d+\.parquet", r"{name}"
LHOTSE = (r"(?:.*_)?cuts_{name}\.jsonl(?:\.gz)?", r"(?:.*_)?supervisions_{name}\.jsonl(?:\.gz)?")
FORMS = (r"{name}\.manifest" + SUFFIXES, r"{name}" + SUFFIXES, *LHOTSE, SHARDS, FOLDER)


def manifests_of(folder: Path, split: str, prefix: str = "") -> list[Path]:
    """Returns the manifest of a split, or the parts of one: DIR/SPLIT.manifest.jsonl, DIR/SPLIT.tsv, DIR/SPLIT/, ...

    prefix: what the names begin with. Raises UserError if there is none, or if several could be meant.
    """
    first = folder / f"{prefix}{split}.manifest.jsonl"
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise UserError(f"{first}: no such file ({folder}: {error.strerror})") from error
    for form in FORMS:
        wanted = re.compile(form.format(name=rf"{re.escape(prefix)}(?:{NAMES[split]})"))
        found = [folder / name for name in names if wanted.fullmatch(name)]
        found = [path for path in found if path.is_dir() == (form is FOLDER)]
        if len(found) > 1 and form is not SHARDS:
            several = " and ".join(path.name for path in found)
            raise UserError(f"{folder}: {several} could each be the {split} split; keep one, or name it {first.name}")
        if found:
            return found
    others = f"{prefix}{split} with .tsv, .csv, .json, .list, .tar or .parquet, or a folder {prefix}{split}"
    raise UserError(f"{first}: no such file, nor {others}")
