"""Data flows one way: a folder imports only folders above it in the list."""

import ast
from pathlib import Path

from jepa_speech.cli import VERBS

FOLDERS = [
    "cloud",
    "features",
    "text",
    "anchors",
    "ingest",
    "store",
    "labelling",
    "batches",
    "augment",
    "nn",
    "settings",
    "objective_parts",
    "objectives",
    "training",
    "costs",
    "huggingface",
    "pretrained",
    "probing",
    "analysis",
    "exporters",
    "api",
    "cli",
]
PACKAGE = Path(__file__).parents[1] / "jepa_speech"


def imported(path: Path) -> set[str]:
    """Every jepa_speech module that a file imports, wherever in the file the import stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by full name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.startswith("jepa_speech.")}


def test_a_folder_imports_only_folders_above_it():
    for level, folder in enumerate(FOLDERS):
        for path in (PACKAGE / folder).rglob("*.py"):
            for name in imported(path):
                other = name.split(".")[1]
                assert other not in FOLDERS[level + 1 :], f"{path.relative_to(PACKAGE)} imports {name}"
                if folder == "training" and other == "objectives":  # never a concrete one
                    registry = ("build", "parsed")
                    assert name.split(".")[2] in registry, f"{path.relative_to(PACKAGE)} imports {name}"


def test_no_verb_is_imported_by_another_module():
    """What verbs share is in the folders above, or in modules of cli/ that are no verbs."""
    for path in (PACKAGE / "cli").glob("*.py"):
        modules = {name.split(".")[2] for name in imported(path) if name.startswith("jepa_speech.cli.")}
        assert not modules & set(VERBS), f"{path.name} imports {modules & set(VERBS)}"


def test_the_list_is_complete():
    assert sorted(FOLDERS) == sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def test_foundation_imports_no_folder():
    for path in PACKAGE.glob("*.py"):
        if path.stem not in ("__init__", "__main__"):
            assert not {name for name in imported(path) if name.split(".")[1] in FOLDERS}


def test_no_file_is_too_long():
    long = {str(p): n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 300}
    assert not long
