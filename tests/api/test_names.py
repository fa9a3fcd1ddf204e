"""`jepa_speech.NAME`: every function of the API, lazily and for type checkers."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import jepa_speech


@pytest.mark.parametrize("name", jepa_speech.__all__)
def test_a_function_of_its_module(name):
    module = importlib.import_module(jepa_speech._MODULES[name])
    assert getattr(jepa_speech, name) is getattr(module, name)
    assert callable(getattr(jepa_speech, name)) and name in dir(jepa_speech)


def test_type_checkers_see_the_same_functions():
    tree = ast.parse(Path(jepa_speech.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "typing"]
    seen = {alias.asname: node.module for node in imports for alias in node.names if alias.name == alias.asname}
    assert seen == jepa_speech._MODULES


def test_no_function_has_the_name_of_a_folder_or_module():
    folder = Path(jepa_speech.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    assert not modules & set(jepa_speech.__all__)


def test_the_package_alone_imports_neither_jax_nor_numpy():
    code = "import sys, jepa_speech; dir(jepa_speech); sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
