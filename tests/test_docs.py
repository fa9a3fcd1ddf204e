"""Every command that README, docs and configs show is one that this program takes.

Here each is parsed by the real parser, its config file is loaded with its overrides, and each make target must be
there. Parsing is less than running: the tests of tests/cli run the commands of some pages, and say which.
"""

import re
import runpy
import shlex
import subprocess
from pathlib import Path

import pytest

from jepa_speech import cli
from jepa_speech.training.configfile import load_config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
PLACEHOLDERS = re.compile(r"\[(--[^\]]*|[A-Z]+=[^\]]*)\]|(?<=[a-z]):RUN(?= )")  # [--optional] parts; a run


def code_lines(page: Path) -> list[str]:
    """The lines of a page's code blocks, fenced as sh or indented by four, with continued lines joined."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    fenced = "".join(re.findall(r"```sh\n(.*?)```", text, re.S)).splitlines()
    outside = re.sub(r"```.*?```", "", text, flags=re.S).splitlines()
    return fenced + [line[4:] for line in outside if line.startswith("    ")]


def commands(program: str) -> list[tuple[str, str]]:
    return [
        (page.name, line.split("  #")[0].strip())
        for page in [*PAGES, *CONFIGS]
        for line in code_lines(page)
        if line.startswith(f"{program} ")
    ]


def test_there_are_commands_to_check():
    assert {"README.md", "probing.md", "data.md", "hubert.py"} <= {page for page, _ in commands("jepa-speech")}


@pytest.mark.parametrize(("page", "line"), commands("jepa-speech"))
def test_a_command_parses_and_its_config_loads(page, line, monkeypatch):
    monkeypatch.chdir(ROOT)
    options = cli.parse(shlex.split(PLACEHOLDERS.sub("", line))[1:])
    if hasattr(options, "config"):
        load_config(options.config, options.overrides)


@pytest.mark.parametrize(("page", "line"), commands("make"))
def test_a_make_target_is_there(page, line):
    subprocess.run(["make", "-n", *shlex.split(PLACEHOLDERS.sub("", line))[1:]], cwd=ROOT, check=True, stdout=-3)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere_and_python_compiles(page):
    text = page.read_text(encoding="utf-8")
    for code in re.findall(r"```python\n(.*?)```", text, re.S):
        compile(code, page.name, "exec")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_name_headings_that_are_there(page):
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
        assert anchor in anchors(page.parent / target if target else page), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    outside = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    headings = re.findall(r"^#+ (.*)", outside, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_functions_that_architecture_names_are_there():
    named = re.findall(r"`(\w+/\w+\.py):(\w+)`", (ROOT / "docs/architecture.md").read_text(encoding="utf-8"))
    assert len(named) > 60
    for file, function in named:
        code = (ROOT / "jepa_speech" / file).read_text(encoding="utf-8")
        assert re.search(rf"^ *def {function}\(", code, re.M), f"{file}:{function}"


def test_the_picture_of_the_cache_is_what_its_script_draws():
    script = runpy.run_path(str(ROOT / "docs" / "cache_picture.py"))
    assert (ROOT / "docs" / "cache.svg").read_text(encoding="utf-8") == script["svg"](), "run docs/cache_picture.py"


def test_readme_stays_short():
    assert len(PAGES[0].read_text(encoding="utf-8").splitlines()) < 150


@pytest.mark.parametrize("place", ["README.md", "docs", "jepa_speech", "launch", "configs"])
def test_nothing_installs_the_package_by_a_name_that_is_not_published(place):
    files = [path for path in [ROOT / place, *(ROOT / place).rglob("*")] if path.suffix in (".md", ".py", ".sh")]
    assert files
    asked = r"pip install (-\S+ )*[\"']?jepa[-_]speech(?! @)"
    assert not [str(path) for path in files if re.search(asked, path.read_text(encoding="utf-8"))]
