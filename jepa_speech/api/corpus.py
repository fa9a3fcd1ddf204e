"""`jepa_speech.list_corpus`: manifests for `probe`, from a public corpus in the layout it is published in."""

from pathlib import Path
from typing import Any

from jepa_speech.arguments import check_choice
from jepa_speech.local_paths import takes_local_paths
from jepa_speech.probing.corpora import listing


@takes_local_paths
def list_corpus(name: str, root: str | Path, out: str | Path) -> dict[str, Any]:
    """Write the manifests of the corpus in the folder `root`, with SUPERB's splits, into the folder `out`.

    name: a module of jepa_speech/probing/corpora, whose docstring says which files `root` must hold.

    Returns a dict: `files` (rows of each manifest, by its name) and `tasks` (what `probe` can measure with them).
    Raises UsageError for another name, and UserError if a recording is not there or outside of both folders, a
    manifest would be empty, or `out` holds a file of that name with other contents.
    """
    check_choice("name", name, listing.NAMES)
    return {"files": listing.write(name, Path(root), Path(out)), "tasks": list(listing.reader(name).TASKS)}
