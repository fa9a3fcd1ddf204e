"""What is written and what is refused. tests/parity/test_export.py compares with transformers."""

import hashlib
import json

import jax
import numpy as np
import pytest
from support import pages
from support.exported_runs import small_config, small_run
from support.public_checkpoints import TINY, toy_arrays, write_folder
from support.toys import typed

from jepa_speech.cli import main
from jepa_speech.errors import UserError
from jepa_speech.exporters.model_card import escaped, exactness, model_card
from jepa_speech.exporters.stablehlo import README
from jepa_speech.huggingface.config import checked_config
from jepa_speech.huggingface.export_folder import Exported, model_type, to_huggingface
from jepa_speech.huggingface.families import FAMILIES
from jepa_speech.huggingface.parameters import from_huggingface
from jepa_speech.huggingface.weights import read_folder
from jepa_speech.objectives import parsed
from jepa_speech.settings.run_config import RunConfig


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("small") / "speech-run", small_config("hubert"))


def test_an_imported_folder_comes_back_byte_for_byte(tmp_path):
    config = TINY | {"model_type": "wavlm", "hidden_dropout": 0.2, "num_buckets": 16, "max_bucket_distance": 20}
    arrays = toy_arrays(config)
    for name in arrays:
        if name.endswith("gru_rel_pos_const"):
            arrays[name] = arrays[name].reshape(1, -1, 1, 1)  # as it is there
    first = write_folder(tmp_path / "first", config, arrays)
    assert main(["import", "hf", str(first), "--out", str(tmp_path / "run")]) == 0
    assert main(["export", "hf", str(tmp_path / "run"), "--out", str(tmp_path / "second")]) == 0
    written, found = read_folder(tmp_path / "second")
    assert found.keys() == arrays.keys()
    for name, x in arrays.items():
        assert found[name].shape == x.shape and found[name].dtype == x.dtype
        np.testing.assert_array_equal(found[name], x)
    assert written.items() >= config.items()
    section = FAMILIES["wavlm"].section
    assert section(written) == section(checked_config(config, "config.json"))


def run_of(section: dict) -> RunConfig:
    """The config of a run of data2vec, or of PASE, with this encoder."""
    name = "pase" if section["name"] == "pase" else "data2vec"
    return parsed({"encoder": section, "objective": {"name": name}, "mask": {}, "mixing": {}, "train": {}})


def test_a_batch_norm_comes_back_as_one_that_computes_the_same():
    config = TINY | {"conv_pos_batch_norm": True, "feat_proj_layer_norm": False}
    arrays = toy_arrays(config)
    section, encoder, *_ = from_huggingface(config, arrays)
    written = to_huggingface(run_of(section), encoder)
    assert written.config.items() >= config.items()
    assert {name: x.size for name, x in written.arrays.items()} == {name: x.size for name, x in arrays.items()}
    again = from_huggingface(written.config, written.arrays)
    assert again.section == section
    for ours, same in zip(jax.tree.leaves(encoder), jax.tree.leaves(again.encoder), strict=True):
        np.testing.assert_allclose(ours, same, rtol=1e-6)


def test_the_folder_and_its_card(run, tmp_path, capsys):
    out = tmp_path / "hf"
    results = {
        "name": "ours",
        "recipe": {},
        "tasks": {
            "phones": {
                "figures": {"accuracy": "higher"},
                "chosen": "layer 1",
                "heads": {
                    "layer 1": {"valid": 0.5, "figures": {"accuracy": {"value": 0.421, "low": 0.41, "high": 0.43}}}
                },
                "chance": 0.1,
            }
        },
    }
    (run / "probe").mkdir()
    (run / "probe" / "ours.json").write_text(json.dumps(results))
    checkpoint = str(run / "checkpoints" / "0")
    assert main(["export", "hf", checkpoint, "--out", str(out), "--json", str(tmp_path / "said.json")]) == 0
    said = json.loads((tmp_path / "said.json").read_text())
    assert sorted(said["files"]) == sorted(path.name for path in out.iterdir())
    shown = capsys.readouterr()
    assert said["class"] == "HubertModel" and "fill in the licence" in shown.out
    assert f"the teacher, λ and the optimizer's state: to continue training, keep {checkpoint}" in shown.err

    config, arrays = read_folder(out)
    assert config["feat_extract_norm"] == "group"
    assert {x.dtype for x in arrays.values()} == {np.dtype(np.float32)}
    assert said["parameters"] == sum(x.size for x in arrays.values())
    assert from_huggingface(config, arrays).not_taken == []
    assert json.loads((out / "preprocessor_config.json").read_text())["return_attention_mask"] is False

    card = (out / "README.md").read_text()
    digest = hashlib.sha256((run / "config.json").read_bytes()).hexdigest()
    wanted = [
        "# speech-run-0\n",
        "`HubertModel`",
        "Run it without padding",
        digest,
        "| data | speech; store fingerprint f00d |",
        "license: unknown",
        "This folder lacks the heads of pretraining",
        "## Licence",
        "| ours | phones | layer 1 | accuracy | 42.1 [41.0, 43.0] | 10.0 |",
    ]
    assert [text for text in wanted if text not in card] == []
    assert "somewhere" not in card  # of the paths of a machine only the last part


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("speech-run_2 (v1.0) [a]", "speech-run_2 (v1.0) [a]"),  # a plain name stays readable
        ("42.1 [41.0, 43.0]", "42.1 [41.0, 43.0]"),
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)&gt;"),
        ("a & b &lt;", "a &amp; b &amp;lt;"),
        ("[here](javascript:x)", "[here\\](javascript:x)"),
        ("![x][y]: z", "![x\\][y\\]: z"),
        ("`a` *b* ~~c~~ a|b $x$", "\\`a\\` \\*b\\* \\~\\~c\\~\\~ a\\|b \\$x\\$"),
        ("_a_ b_c", "\\_a\\_ b_c"),
        ("back\\`slash", "back\\\\\\`slash"),
        ("a\n## b\r\nc\u2028d", "a ## b  c d"),
        ("see https://a.b or www.a.b, x@y.z", "see https&#58;&#47;&#47;a.b or www&#46;a.b, x&#64;y.z"),
    ],
)
def test_a_text_in_a_card_shows_as_it_is(text, wanted):
    assert escaped(text) == wanted


def test_every_text_from_elsewhere_is_escaped_in_a_card(tmp_path):
    """The run folder, the stores, the anchor, what it was started and imported from, and the results."""
    bad = "<b>x</b> [a](b) `c`"
    config = small_config("hubert")
    config["data"]["store"], config["init_from"] = f"stores/{bad}", f"runs/{bad}".replace("</b>", "<i>")
    config["inputs"] = {"store": bad, "anchor": bad}
    config["imported"] = {"folder": f"hf/{bad}".replace("</b>", "<i>"), "model_type": bad}
    run = tmp_path / bad.replace("</b>", "<i>")
    (run / "probe").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps(config))
    figure = {"value": 0.4, "low": 0.3, "high": 0.5}
    head = {"valid": 0.5, "figures": {"accuracy": figure}}
    task = {"figures": {"accuracy": "higher"}, "chosen": bad, "heads": {bad: head}, "chance": 0.1}
    results = {"name": bad, "recipe": {}, "tasks": {bad: task}}
    (run / "probe" / "ours.json").write_text(json.dumps(results))
    theirs = {"model_type": "hubert", "architectures": ["HubertModel"], "feat_extract_norm": "group"}
    exported = Exported(theirs, {"a": np.zeros(1, np.float32)})
    card = model_card(run, typed(config), 1, exported)
    assert card.count("&lt;b&gt;x") >= 9
    assert not any(piece in card for piece in ("<b>", "<i>", "[a](b)", "`c`"))


def test_a_folder_with_a_config_is_left_alone(run, capsys):
    before = (run / "config.json").read_bytes()
    assert main(["export", "hf", str(run), "--out", str(run)]) == 1
    assert "already has a config.json" in capsys.readouterr().err
    assert (run / "config.json").read_bytes() == before


def test_a_place_that_cannot_be_written_is_one_line(run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["export", "hf", str(run), "--out", str(tmp_path / "file" / "hf")]) == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("hubert", {"name": "pase"}, "encoder.name = pase: transformers has no such architecture; use"),
        ("hubert", {"name": "released_conformer"}, "released_conformer: .*`jepa-speech export stablehlo` or"),
        ("hubert", {"frontend": "logmel"}, "encoder.frontend = logmel: .* encoder.frontend = conv"),
        ("data2vec", {"alibi": True}, "encoder.alibi = True: transformers has no such architecture; use"),
        ("data2vec", {"norm": "group"}, "its data2vec has encoder.norm = layer"),
        ("data2vec", {"pre_norm": True}, "its data2vec has encoder.pre_norm = False"),
        ("data2vec", {"relative_bias": True}, "its data2vec has encoder.relative_bias = False"),
        ("data2vec", {"feature_norm": False}, "its data2vec has encoder.feature_norm = True"),
        ("wavlm:large", {"positions": "scaled"}, "its WavLM has encoder.positions = conv"),
    ],
)
def test_what_transformers_does_not_have_is_refused(name, change, says):
    encoder = small_config(name)["encoder"] | change
    if change.get("name"):
        encoder = change
    with pytest.raises(UserError, match=says) as error:
        model_type(run_of(encoder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("frontend", ["subsampled", "subsampled50"])
def test_a_subsampled_front_end_is_refused(frontend):
    config = run_of({"name": "conformer", "frontend": frontend})
    with pytest.raises(UserError, match=rf"encoder\.frontend = {frontend}: .*stablehlo") as error:
        to_huggingface(config, {})
    assert "\n" not in str(error.value)


def test_no_run_is_one_line(tmp_path, capsys):
    assert main(["export", "hf", str(tmp_path), "--out", str(tmp_path / "hf")]) == 1
    assert "not a run folder" in capsys.readouterr().err
    assert not (tmp_path / "hf").exists()


@pytest.mark.parametrize(
    ("theirs", "row"),
    [
        ({"model_type": "jepa_speech", "frontend": "logmel"}, "ours on log-mel"),
        ({"model_type": "jepa_speech", "frontend": "conv"}, "ours on convolutions"),
        ({"model_type": "wavlm"}, "one of transformers' classes"),
        ({"model_type": "wav2vec2-bert"}, "one of transformers' classes"),
    ],
)
def test_cards_and_docs_state_the_same_tolerance(theirs, row):
    (cells,) = [line.split("|")[2:5] for line in pages.text("export.md").splitlines() if line.startswith(f"| {row} |")]
    torch, onnx, stablehlo = (cell.strip() for cell in cells)
    assert f" up to {torch} of a layer's root mean square" in exactness(theirs)
    assert float(onnx) <= float(torch)  # its folder has the same card
    assert f" up to {stablehlo} of a layer's root mean square" in README
