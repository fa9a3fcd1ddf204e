"""The commands that the docs promise."""

import re
import shlex
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def text(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def commands(page: str) -> list[list[str]]:
    """The jepa-speech commands of a page's sh blocks, in order, without the program's name."""
    blocks = re.findall(r"```sh\n(.*?)```", text(page), re.S)
    return [shlex.split(line)[1:] for line in "".join(blocks).splitlines() if line.startswith("jepa-speech ")]


def blocks(text: str) -> list[str]:
    """The blocks of Python of a page, or of a model card, in order."""
    return re.findall(r"```python\n(.*?)```", text, re.S)


def code(text: str, containing: str) -> str:
    """The one block of Python that contains a text."""
    (block,) = [block for block in blocks(text) if containing in block]
    return block
