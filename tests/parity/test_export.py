"""Runs, exported, and loaded by transformers' own classes: the same hidden states as ours."""

import numpy as np
import pytest
from support import pages

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from parity.oracles import MODELS, TOLERANCE, their_model  # noqa: E402
from parity.sizes import PRE_NORM, TINY  # noqa: E402
from support.exported_runs import ENCODERS, small_config, small_run  # noqa: E402

import jepa_speech  # noqa: E402
from jepa_speech.cli import main  # noqa: E402
from jepa_speech.files import read_json  # noqa: E402
from jepa_speech.huggingface.export_folder import takes_padding  # noqa: E402

CLASSES = dict(zip(ENCODERS, ["wav2vec2", "hubert", "wavlm", "data2vec-audio", "wav2vec2"], strict=True))
SHORT = [400, 719, 5_000, 16_000]  # samples, from the shortest input up
LONG = 35 * 16_000
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")  # of WavLM's code


def wave(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).normal(0.1, 0.2, samples).astype(np.float32)


class Pair:
    """A run, and what transformers loads of its export by the code that docs/export.md shows."""

    def __init__(self, name, folder):
        run = small_run(folder / "run", small_config(name))
        assert main(["export", "hf", str(run), "--out", str(folder / "hf")]) == 0
        self.ours, self.folder = jepa_speech.load_pretrained(run), folder / "hf"
        shown: dict = {}
        exec(pages.code(pages.text("export.md"), "def layers(inputs)").replace("DIR", str(self.folder)), shown)
        self.extractor, self.theirs, self.shown_layers = shown["extractor"], shown["model"], shown["layers"]
        kind = MODELS[CLASSES[name]][1]
        assert type(self.theirs) is kind and not self.theirs.training
        _, loading = kind.from_pretrained(self.folder, output_loading_info=True)
        assert not any(loading.values()), loading  # nothing missing, unexpected or of another shape
        self.padded = takes_padding(read_json(self.folder / "config.json"))

    def their_layers(self, waves):
        """Each (B, T, D)."""
        inputs = self.extractor(waves, sampling_rate=16_000, padding=len(waves) > 1, return_tensors="pt")
        assert ("attention_mask" in inputs) == self.padded
        return [x.numpy() for x in self.shown_layers(inputs)]


def rows_of_the_last_entry() -> list[list[str]]:
    """The rows of the docs' table of `hidden_states`, without our own model, which other tests compare."""
    rows = pages.text("export.md").partition("| last entry of `hidden_states`")[2].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[: rows.index("")]]
    return [row for row in cells if "JepaSpeech" not in row[0]]


def test_the_last_entry_of_hidden_states_is_what_the_docs_say():
    """By class and wiring: the last hidden state, or what the closing layer norm makes it of."""
    sizes, classes = TINY | {"num_hidden_layers": 1}, 0
    for names, wiring, last, _ in rows_of_the_last_entry():
        for name in names.replace("`", "").split(", "):
            kind = getattr(transformers, name)
            stable = {"do_stable_layer_norm": True} if "do_stable_layer_norm = true" in wiring else {}
            model, classes = kind(kind.config_class(**sizes, **stable)).eval(), classes + 1
            shape = (1, 8, 160) if "Bert" in name else (1, 2_000)
            with torch.no_grad():
                out = model(torch.randn(shape), output_hidden_states=True)
                before, after = out.hidden_states[-1], out.last_hidden_state
                if last != "`last_hidden_state`":
                    assert last == "before the closing layer norm" and not torch.equal(before, after)
                    before = model.encoder.layer_norm(before)
            torch.testing.assert_close(before, after)
    assert classes == 13


@pytest.fixture(scope="module", params=ENCODERS)
def pair(request, tmp_path_factory):
    return Pair(request.param, tmp_path_factory.mktemp("exported"))


def check(pair, samples):
    ours, theirs = pair.ours.represent(wave(samples), 16_000).layers, pair.their_layers([wave(samples)])
    errors = [np.abs(a - b[0]).max() for a, b in zip(ours, theirs, strict=True)]
    assert max(errors) < TOLERANCE, (samples, errors)


def test_hidden_states_are_ours_at_every_length(pair):
    longest = [LONG] if CLASSES["hubert"] == pair.theirs.config.model_type else []
    for samples in SHORT + longest:
        check(pair, samples)


def test_the_card_shows_how_to_get_our_layers(pair):
    """Its code gives them, and it says truly whether `hidden_states` are the same."""
    card, shown = (pair.folder / "README.md").read_text(), {"wave": wave(5_000)}
    exec(pages.code(card, "layers = ").replace("DIR", str(pair.folder)), shown)
    ours = pair.ours.represent(wave(5_000), 16_000).layers
    assert max(np.abs(a - b[0].numpy()).max() for a, b in zip(ours, shown["layers"], strict=True)) < TOLERANCE
    same = np.abs(shown["out"].hidden_states[-1][0].numpy() - ours[-1]).max() < TOLERANCE
    assert same == ("For this model they equal `hidden_states`" in card) == (not pair.ours.config.encoder.pre_norm)


@pytest.mark.slow  # seconds each; HuBERT's is above
def test_hidden_states_are_ours_at_35_seconds(pair):
    check(pair, LONG)


def test_rows_of_a_padded_batch_are_ours(pair):
    """Except front-ends that normalise over time, and data2vec, as the model card says."""
    if not pair.padded or pair.theirs.config.model_type == "data2vec-audio":
        return
    check_padded(pair, SHORT)


@pytest.mark.slow
def test_rows_beside_one_of_35_seconds_are_ours(pair):
    if pair.padded and pair.theirs.config.model_type != "data2vec-audio":
        check_padded(pair, [*SHORT, LONG])


def check_padded(pair, lengths):
    theirs = pair.their_layers([wave(samples) for samples in lengths])
    for row, samples in enumerate(lengths):
        ours = pair.ours.represent(wave(samples), 16_000).layers
        errors = [np.abs(a - b[row, : len(a)]).max() for a, b in zip(ours, theirs, strict=True)]
        assert max(errors) < TOLERANCE, (samples, errors)


@pytest.mark.parametrize(
    ("kind", "wiring"),
    [
        ("wav2vec2", {}),
        ("hubert", PRE_NORM | {"feat_proj_layer_norm": False, "layer_norm_eps": 1e-3}),
        ("wavlm", {"num_buckets": 16, "max_bucket_distance": 20}),
        ("data2vec-audio", {"num_conv_pos_embeddings": 5}),
    ],
)
def test_from_transformers_to_a_run_and_back_no_tensor_changes(kind, wiring, tmp_path):
    """Of a folder that transformers wrote: names, shapes, types and bytes; and the config says the same model."""
    model = their_model(kind, TINY | wiring)
    model.save_pretrained(tmp_path / "first")
    assert main(["import", "hf", str(tmp_path / "first"), "--out", str(tmp_path / "run")]) == 0
    assert main(["export", "hf", str(tmp_path / "run"), "--out", str(tmp_path / "second")]) == 0
    again = MODELS[kind][1].from_pretrained(tmp_path / "second")
    first, second = model.state_dict(), again.state_dict()
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].dtype == second[name].dtype
        assert torch.equal(first[name], second[name]), name
    ours, theirs = again.config.to_dict(), model.config.to_dict()
    own = {"_name_or_path", "transformers_version", "dtype", "feat_quantizer_dropout"}  # HuBERT's has no quantiser
    assert {k: x for k, x in theirs.items() if k not in own} == {k: x for k, x in ours.items() if k not in own}
