"""The oracles of `make parity` at toy sizes, and that they see what is wrong."""

from dataclasses import replace
from functools import partial

import jax
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("jepa_science")

from parity import blocks, grids, losses, regulariser, table
from parity.oracles import Difference
from parity.sizes import TINY, TINY_CODES

import jepa_speech.nn.blocks
from jepa_speech.objective_parts.contract import Term
from jepa_speech.training.step import value


def name(oracle: table.Oracle) -> str:
    return oracle.func.__name__ if isinstance(oracle, partial) else oracle.__name__


@pytest.mark.parametrize("oracle", table.TINY_ORACLES, ids=name)
def test_nothing_is_off(oracle):
    assert [row for row in oracle() if not table.passes(row)] == []


def off(oracle: table.Oracle) -> list[str]:
    return [row.what for row in oracle() if not table.passes(row)]


def test_a_distractor_with_the_codes_of_the_target_shows(monkeypatch):
    """Six codes a group: some distractors are the target."""
    terms = losses.contrastive_terms

    def count_them(context, targets, quantized, *others):
        ids = jax.numpy.arange(quantized.ids.size).reshape(quantized.ids.shape)
        found, _ = terms(context, targets, quantized._replace(ids=ids), *others)
        return found, terms(context, targets, quantized, *others)[1]

    monkeypatch.setattr(losses, "contrastive_terms", count_them)
    found = off(partial(losses.wav2vec2_loss, TINY | TINY_CODES, [0.7, 0.7], ""))
    assert found == ["contrastive loss", "total loss"]


def test_a_choice_that_passes_no_gradient_shows(monkeypatch):
    monkeypatch.setattr(jax.lax, "stop_gradient", lambda x: x)  # soft - soft
    found = off(partial(losses.gumbel_quantizer, TINY | TINY_CODES, (2, 30), ""))
    assert found == ["gradient of weight, relative", "gradient of bias, relative"]


def test_a_block_without_positions_shows(monkeypatch):
    monkeypatch.setattr(jepa_speech.nn.blocks, "rotate", lambda x, **_: x)
    assert off(partial(blocks.conformer, 32, 4, 64, 5, 40, "")) == ["output", "feed-forward"]


def test_another_way_to_draw_masks_shows(monkeypatch):
    """w2v-BERT's policy hides as much on average, but one row more and another less."""
    draw = grids.span_masks

    def bernoulli(keys, lengths, size, config):
        return draw(keys, lengths, size, replace(config, policy="bernoulli", probability=0.065))

    monkeypatch.setattr(grids, "span_masks", bernoulli)
    assert off(partial(grids.mask_distribution, 0.65, "")) == ["distribution of coverage"]


def test_a_mean_of_each_rows_statistics_shows(monkeypatch):
    whole = regulariser.sigreg_term

    def averaged(z, weight, *others):
        rows = [whole(z[row : row + 1], weight[row : row + 1], *others) for row in range(len(z))]
        return Term(sum(value(row) for row in rows), jax.numpy.asarray(len(rows)), 1.0)

    monkeypatch.setattr(regulariser, "sigreg_term", averaged)
    assert off(regulariser.sigreg) == ["statistic, relative", "gradient, relative"]


@pytest.mark.parametrize(("error", "code"), [(1e-5, 0), (2e-4, 1), (float("nan"), 1)])
def test_the_table_fails_where_a_row_does(monkeypatch, tmp_path, capsys, error, code):
    rows = [Difference("HuBERT", f"hidden state {i}", e, 1e-4) for i, e in enumerate((0.0, error, 0.0))]
    monkeypatch.setattr(table, "TINY_ENCODERS", [])
    monkeypatch.setattr(table, "PUBLISHED_ORACLES", [])
    monkeypatch.setattr(table, "TINY_ORACLES", [lambda: [*rows, Difference("grid", "frames", 0, 0)]])
    assert table.main([str(tmp_path / "parity.md")]) == code
    text = (tmp_path / "parity.md").read_text()
    shown = f"{error:.1e}" if code == 0 else f"**{error:.1e}**"
    assert f"| HuBERT | hidden states 0 to 2 | {shown} | 0.0001 |\n| grid | frames | 0 | exact |" in text
    assert "not run: needs Python 3.12" in text
    assert capsys.readouterr().out.startswith(text) and not text.endswith("tolerance\n")
