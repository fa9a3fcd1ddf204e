"""Finds the manifest of a split in a folder of labelled recordings."""

import re
from pathlib import Path

from jepa_speech.errors import UserError

SPLITS = ("train", "valid", "test")
# Names of the splits in corpora and toolkits.
NAMES = {"train": "train", "valid": "valid|dev|validation|val", "test": "test"}
SUFFIXES = r"\.(?:(?:jsonl|ndjson|json|tsv|csv|list)(?:\.gz)?|tar|parquet)"
OF_A_SET = r"-\d+-of-(\d+)(?:-[0-9a-f]+)?\.parquet"  # older versions of datasets end each name with a hash
SHARDS, FOLDER = r"{name}" + OF_A_SET, r"{name}"
# In order of precedence: our names, plain ones, NeMo's, Lhotse's, Hugging Face's shards (which together are the split),
# a folder.
LHOTSE = (r"(?:.*_)?cuts_{name}\.jsonl(?:\.gz)?", r"(?:.*_)?supervisions_{name}\.jsonl(?:\.gz)?")
NEMO = r"{name}_manifest" + SUFFIXES
FORMS = (r"{name}\.manifest" + SUFFIXES, r"{name}" + SUFFIXES, NEMO, *LHOTSE, SHARDS, FOLDER)


def manifests_of(folder: Path, split: str, prefix: str = "") -> list[Path]:
    """Returns the manifest of a split, or its parts: DIR/SPLIT.manifest.jsonl, DIR/SPLIT.tsv, DIR/SPLIT/, ...

    If DIR has none, DIR/data is searched, which recipes and Hugging Face use. prefix: of the names. Raises UserError if
    there is none, if several could be meant, or if a shard is missing.
    """
    first = folder / f"{prefix}{split}.manifest.jsonl"
    name = rf"{re.escape(prefix)}(?:{NAMES[split]})"
    try:
        found = _found(folder, name, first.name)
        if not found and (folder / "data").is_dir():
            found = _found(folder / "data", name, first.name)
    except OSError as error:
        raise UserError(f"{first}: no such file ({folder}: {error.strerror})") from error
    if not found:
        also = NAMES[split].split("|")[1:]
        or_dev = f" (also {', '.join(also)})" if also else ""
        others = f"{prefix}{split}{or_dev} with .tsv, .csv, .json, .list, .tar or .parquet, or a folder {prefix}{split}"
        raise UserError(f"{first}: no such file, nor {others}")
    return found


def _found(folder: Path, name: str, best: str) -> list[Path]:
    """Returns the files that match the first of FORMS with a match in the folder. best: a name for the error."""
    names = sorted(path.name for path in folder.iterdir())
    for form in FORMS:
        wanted = re.compile(form.format(name=name))
        found = [folder / one for one in names if wanted.fullmatch(one)]
        found = [path for path in found if path.is_dir() == (form is FOLDER)]
        if len(found) > 1 and not (form is SHARDS and len({_set_of(path) for path in found}) == 1):
            several = " and ".join(path.name for path in found)
            raise UserError(f"{folder}: {several} could each be the split; keep one, or rename it {best}")
        if form is SHARDS and found and len(found) != (count := _set_of(found[0])[1]):
            raise UserError(f"{folder}: has {len(found)} of {count} shards like {found[0].name}; copy the others")
        if found:
            return found
    return []


def _set_of(shard: Path) -> tuple[str, int]:
    """Returns the common name and the number of a shard's set."""
    found = re.fullmatch("(.*)" + OF_A_SET, shard.name)
    assert found is not None  # the name matches SHARDS
    return found[1], int(found[2])
