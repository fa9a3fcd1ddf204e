"""docs/import.md has the table of public models of tests/support/public_models.py, which tests/parity compares."""

import re
from pathlib import Path

import pytest
from support.public_models import CONFORMERS, PUBLISHED, UNSUPPORTED

from jepa_speech.errors import UserError
from jepa_speech.huggingface.config import checked_config

KEYS = ["model_type", "feat_extract_norm", "do_stable_layer_norm", "conv_bias"]
CONFORMER_KEYS = ["model_type", "position_embeddings_type", "hidden_act"]
DOCS = Path(__file__).parents[2] / "docs" / "import.md"


def rows():
    """For each row of the documents' tables that begins with a public name: its names, and its other cells."""
    for line in DOCS.read_text(encoding="utf-8").splitlines():
        if re.match(r"\| `[\w.-]+/[\w.-]+`", line):
            first, *others = (cell.strip() for cell in line.strip("|").split("|"))
            yield re.findall(r"`(.*?)`", first), others


def test_the_documents_list_what_is_tested():
    listed = {name: cells for names, cells in rows() for name in names}
    assert listed.keys() == PUBLISHED.keys() | CONFORMERS.keys() | UNSUPPORTED.keys()
    for name, config in (PUBLISHED | CONFORMERS).items():
        *cells, more = listed[name]
        for key, cell in zip(CONFORMER_KEYS if name in CONFORMERS else KEYS, cells, strict=True):
            assert cell == (f"`{config[key]}`".lower() if key in config else ""), (name, key)
        for key, value in re.findall(r"`(\w+) = (\w+)`", more):
            assert str(config[key]).lower() == value, (name, key)
    for name, (key, _) in UNSUPPORTED.items():
        assert f"`{key}`" in listed[name][0]


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_cannot_be_read_is_refused_by_its_key(name):
    key, config = UNSUPPORTED[name]
    with pytest.raises(UserError, match=f"^config.json: {key} = "):
        checked_config(config, "config.json")
