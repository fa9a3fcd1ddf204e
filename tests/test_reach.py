"""No code of jepa_speech/ is there for tests alone."""

import ast
import re
from collections import Counter
from pathlib import Path

import jepa_speech
from jepa_speech.cli import VERBS

ROOT = Path(__file__).parents[1]
FILES = [path.relative_to(ROOT) for path in (ROOT / "jepa_speech").rglob("*.py")]
TREES = {
    ".".join(path.with_suffix("").parts).removesuffix(".__init__"): ast.parse((ROOT / path).read_text(encoding="utf-8"))
    for path in FILES
}
# Imported by a name that is put together, or copied into exported folders, or run by their path.
BY_NAME = ("jepa_speech.objectives.", "jepa_speech.probing.corpora.")
SCRIPTS = (".espeak_voices", ".s3prl_expert", ".modeling_jepa_speech")


def imported(tree: ast.AST) -> set[str]:
    """What a file imports, wherever in the file: modules, and names that may be modules."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def unreached(trees: dict[str, ast.Module]) -> set[str]:
    """Modules that neither the command line nor the Python API imports, directly or through others."""
    begin = ["jepa_speech.__main__", *jepa_speech._MODULES.values(), *(f"jepa_speech.cli.{verb}" for verb in VERBS)]
    begin += [name for name in trees if name.startswith(BY_NAME) or name.endswith(SCRIPTS)]
    found: set[str] = set()
    while begin:
        if (name := begin.pop()) in trees and name not in found:
            found.add(name)
            begin += [*imported(trees[name]), name.rpartition(".")[0]]
    return trees.keys() - found


def mentions(node: ast.AST) -> Counter[str]:
    """How often code mentions a name: as a variable, an attribute, or a string."""
    found: Counter[str] = Counter()
    for part in ast.walk(node):
        if isinstance(part, ast.Name | ast.Attribute):
            found[part.id if isinstance(part, ast.Name) else part.attr] += 1
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            found[part.value] += 1
    return found


def unused(trees: dict[str, ast.Module], elsewhere: set[str]) -> set[str]:
    """Functions, classes and methods that no code mentions outside their own definition, and that are not `elsewhere`.

    One that shares its name with another, used one is not found.
    """
    everywhere = sum((mentions(tree) for tree in trees.values()), Counter())
    definitions = (ast.FunctionDef, ast.ClassDef)
    return {
        f"{module}.{node.name}"
        for module, tree in trees.items()
        for body in (tree, *(node for node in tree.body if isinstance(node, ast.ClassDef)))
        for node in body.body
        if isinstance(node, definitions) and not node.name.startswith("__") and node.name not in elsewhere
        if everywhere[node.name] == mentions(node)[node.name]
    }


def elsewhere() -> set[str]:
    """Words of benchmarks, configs, documentation, and of what other programs call."""
    found = {"UpstreamExpert", "forward", "seekable"}  # by S3PRL, torch and soundfile
    for folder, kind in (("benchmarks", "py"), ("configs", "py"), ("docs", "md")):
        for path in (ROOT / folder).rglob(f"*.{kind}"):
            found |= set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    return found


def test_every_module_is_reached_by_a_verb_or_the_python_api():
    assert not unreached(TREES)
    others = {
        "jepa_speech.__main__": "from jepa_speech.nn import masks",
        "jepa_speech.nn.masks": "",
        "jepa_speech.x": "",
    }
    assert unreached({name: ast.parse(code) for name, code in others.items()}) == {"jepa_speech.x"}


def test_every_function_and_class_is_used():
    assert not unused(TREES, elsewhere())
    recursive = ast.parse("class Kept:\n    def lonely(self): return self.lonely()\nx = Kept")
    assert unused({"x": recursive}, set()) == {"x.lonely"}
