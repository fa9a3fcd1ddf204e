"""The source distribution is complete, and the wheel made from it works in an empty folder, configs included."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def python(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | variables
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def built(source: Path, kind: str, out: Path) -> Path:
    """What the build backend makes of a source tree, without the network: an sdist or a wheel."""
    out.mkdir()
    call = f"from setuptools import build_meta; print('made:' + build_meta.build_{kind}({str(out)!r}))"
    done = python(source, "-c", call)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.split("made:")[1].strip()


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """The files of a commit: those that git has, or, in an unpacked sdist, all."""
    if (ROOT / ".git").exists():
        return subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    return [line for line in (ROOT / "jepa_speech.egg-info" / "SOURCES.txt").read_text().splitlines() if line]


@pytest.fixture(scope="module")
def wheel(tracked, tmp_path_factory) -> Path:
    """A folder as pip would fill it from the sdist, and beside it `names`, the files of the sdist."""
    work = tmp_path_factory.mktemp("packaging")
    for name in tracked:
        if (ROOT / name).is_file():  # not one that is deleted and not committed yet
            (work / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, work / "source" / name)
    with tarfile.open(built(work / "source", "sdist", work / "sdist")) as archive:
        archive.extractall(work / "unpacked", filter="data")
    (unpacked,) = (work / "unpacked").iterdir()
    names = [path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()]
    (work / "names.json").write_text(json.dumps(names))
    zipfile.ZipFile(built(unpacked, "wheel", work / "wheel")).extractall(work / "site")
    return work / "site"


def test_the_sdist_has_every_file_of_the_repository(wheel, tracked):
    names = set(json.loads((wheel.parent / "names.json").read_text()))
    assert names >= {name for name in tracked if (ROOT / name).is_file()}
    extra = {name for name in names if not name.startswith("jepa_speech.egg-info/")} - set(tracked)
    assert extra <= {"PKG-INFO", "setup.cfg"}


def test_the_wheel_has_every_module_and_config_and_no_more(wheel, tracked):
    there = {path.relative_to(wheel).as_posix() for path in wheel.rglob("*") if path.is_file()}
    wanted = {name for name in tracked if name.startswith("jepa_speech/")}
    wanted |= {f"jepa_speech/{name}" for name in tracked if name.startswith("configs/")}
    assert {name for name in there if ".dist-info/" not in name} == wanted


def test_a_wheel_prints_its_configs_and_trains_without_a_file(wheel, tmp_path):
    def run(*arguments: str) -> subprocess.CompletedProcess:
        return python(tmp_path, "-m", "jepa_speech", *arguments, PYTHONPATH=str(wheel))

    printed = run("config", "smoke")
    assert printed.returncode == 0 and printed.stdout == (ROOT / "configs" / "smoke.py").read_text(encoding="utf-8")
    (tmp_path / "mine.py").write_text(printed.stdout, encoding="utf-8")
    for name in ("smoke:hubert", "mine.py:hubert"):  # each imports other configs of the package
        refused = run("train", "--config", name, "--workdir", "run")
        assert "no store to train on" in refused.stderr and "Traceback" not in refused.stderr
    lines = run("config").stdout.splitlines()
    assert [line.split()[0] for line in lines] == sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
    known = run("config", "smok")
    assert known.returncode == 2 and "smok: no config has this name" in known.stderr and "smoke" in known.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"mine.py", "__pycache__"}  # Python's own, where it may


def test_the_page_of_extras_names_every_extra(wheel):
    metadata = next(wheel.glob("*.dist-info/METADATA")).read_text(encoding="utf-8")
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    named = [name for cell in re.findall(r"^\| (`.*?) \|", page, re.M) for name in re.findall(r"`([\w-]+)`", cell)]
    assert sorted(named) == sorted(re.findall(r"^Provides-Extra: (\S+)", metadata, re.M))


def test_a_test_asks_before_it_imports_what_only_another_extra_brings(wheel):
    """`make test` in a fresh clone installs the extra `test` alone."""
    metadata = next(wheel.glob("*.dist-info/METADATA")).read_text(encoding="utf-8")
    required = re.findall(r'^Requires-Dist: ([\w-]+)[^;\n]*(?:;.*extra == "([\w-]+)")?', metadata, re.M)
    here = {name for name, extra in required if extra in ("", "test")}
    others = {part for name, _ in required if name not in here for part in (name.replace("-", "_"), name.split("-")[0])}
    assert {"torch", "transformers", "wandb", "mlflow"} <= others
    for path in ROOT.glob("tests/**/test_*.py"):
        asked: set[str] = set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            asked |= set(re.findall(r"importorskip\('(\w+)", ast.unparse(node)))
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names]
                assert not {name.partition(".")[0] for name in names} & others - asked, f"{path}:{node.lineno}"
