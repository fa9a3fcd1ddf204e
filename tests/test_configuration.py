"""docs/configuration.md says what the code says, and lists every key of every config."""

import importlib.util
import re
from dataclasses import dataclass, fields
from typing import Literal

import pytest
from support import pages

from jepa_speech.settings.run_config import flat, plain
from jepa_speech.training.configfile import load_config, own_names

NAMES = [*own_names(), "hubert:large", "wav2vec2:conformer", "w2v_bert:v2", "smoke:wavlm"]


def script():
    spec = importlib.util.spec_from_file_location("configuration", pages.DOCS / "configuration.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_script_writes():
    assert pages.text("configuration.md") == script().page(), "run `python docs/configuration.py`"


def test_the_page_lists_every_key_of_every_config():
    parts = re.split(r"^## (\w+)", pages.text("configuration.md"), flags=re.M)
    known = {"seed", "init_from"}
    for section, text in zip(parts[1::2], parts[2::2], strict=True):
        known |= {f"{section}.{key}" for key in re.findall(r"^\| `(\w+)` \|", text, re.M)}
    for name in NAMES:
        assert {key for key, _ in flat(plain(load_config(name)))} - known == set(), name


def test_each_table_names_the_dataclass_that_holds_its_defaults():
    parts = re.split(r"^## .*\n\n", pages.text("configuration.md"), flags=re.M)[1:]
    assert len(parts) > 20
    for part in parts:
        name, file = re.match(r"`(\w+)` in \[.*\]\(\.\./(.*)\)\n", part).groups()
        assert f"\nclass {name}" in (pages.DOCS.parent / file).read_text(encoding="utf-8")


@dataclass
class Shared:
    """A section."""

    width: int = 8  # of the blocks [fairseq: encoder_embed_dim]
    bare: str = ""


@dataclass
class Section(Shared):
    """A section.

    More of it.
    """

    # small | large, in a long
    # comment
    size: Literal["small", "large"] = "small"
    spans: tuple[float, float] = (1.0, 2.0)  # in dB


def test_comments_behind_fields_and_above_them_are_read():
    assert script().comments(Section) == {
        "width": "of the blocks [fairseq: encoder_embed_dim]",
        "size": "small | large, in a long comment",
        "spans": "in dB",
    }


def test_names_elsewhere_end_a_comment():
    field = fields(Section)[0]
    assert script().row(field, int, "of the blocks [fairseq: a]").endswith("| of the blocks | fairseq: a |")
    with pytest.raises(ValueError, match="width: text behind the bracket"):
        script().row(field, int, "of the blocks [fairseq: a]; 0: none")


def test_a_table_of_all_keys_needs_a_comment_for_each():
    with pytest.raises(KeyError, match="bare"):
        list(script().table(Section))
    Section.__dataclass_fields__.pop("bare")
    assert list(script().table(Section))[2:] == [
        "| `width` | int | `8` | of the blocks | fairseq: encoder_embed_dim |",
        r"| `size` | `small`, `large` | `small` | small \| large, in a long comment |  |",
        "| `spans` | float, float | `1.0,2.0` | in dB |  |",
    ]
