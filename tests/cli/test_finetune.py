"""Fine-tuning from the command line: tones are learnt to be written, and a checkpoint transcribes alone."""

import importlib.util
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from support.exported_runs import small_config, small_run
from support.language_models import uniform
from support.tone_language import melodies
from support.toys import CONFIGS, build

from jepa_speech.cli import main
from jepa_speech.files import write_jsonl
from jepa_speech.pretrained.init_from import weights_of
from jepa_speech.pretrained.load import Pretrained
from jepa_speech.settings.run_config import plain
from jepa_speech.store.prepare import prepare
from jepa_speech.training.checkpoint import Checkpoints, arranged, by_path, read_weights
from jepa_speech.training.configfile import config_dict
from jepa_speech.training.run_json import config_of_a_run
from jepa_speech.training.state import TrainState

TOY = {
    "data.batch_seconds": "8",
    "data.buckets": "1.0",
    "encoder.frontend": "logmel",
    "encoder.width": "32",
    "encoder.blocks": "1",
    "encoder.heads": "2",
    "encoder.hidden": "64",
    "encoder.position_kernel": "8",
    "encoder.position_groups": "2",
    "encoder.pre_norm": "True",
    "encoder.layerdrop": "0",
    "mask.span": "3,3",
    "mask.probability": "0.05",
    "objective.channel_probability": "0",
    "objective.freeze_steps": "0",
    "objective.freeze_frontend": "False",
    "optim.learning_rate": "0.005",
    "train.steps": "150",
    "train.checkpoint_every": "130",
    "train.best": "heldout_cer",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Melodies for training and, held out, others; as manifests and as stores."""
    folder = tmp_path_factory.mktemp("finetune")
    for name, count, seed in (("train", 48, 0), ("valid", 8, 100)):
        prepare([melodies(folder / name, count, seed)], folder / f"{name}.store", "pcm16", workers=1)
    return folder


def command(made: Path, run: Path, config: str = "finetune_ctc.py", **changes: str) -> list[str]:
    keys = TOY | {"data.store": made / "train.store", "data.heldout": made / "valid.store"}
    keys |= {key.replace("__", "."): value for key, value in changes.items()}
    settings = [f"--config.{key}={value}" for key, value in keys.items()]
    return ["train", "--config", f"{CONFIGS}/{config}", "--workdir", str(run), *settings]


@pytest.fixture(scope="module")
def trained(made) -> Path:
    run = made / "run"
    assert main(command(made, run)) == 0
    return run


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_it_learns_to_write_and_goes_on_bit_by_bit(made, trained, capsys):
    first, last = (row["heldout_cer"] for row in rows(trained) if "heldout_cer" in row)
    assert last <= first and last < 0.25  # an encoder without input makes about as many errors as there are characters
    assert json.loads((trained / "config.json").read_text())["objective"]["characters"] == " abc"
    written = (trained / "metrics.jsonl").read_bytes()
    shutil.rmtree(trained / "checkpoints" / "150")
    assert main(command(made, trained)) == 0
    assert (trained / "metrics.jsonl").read_bytes() == written
    assert "48 recordings with a text; left out: 0 without, 0 too long" in capsys.readouterr().err


def test_a_checkpoint_transcribes_alone(made, trained, tmp_path, capsys):
    out, said = tmp_path / "texts.jsonl", tmp_path / "said.json"
    manifest = made / "valid" / "manifest.jsonl"
    scored = ["transcribe", str(trained), "--manifest", str(manifest), "--out", str(out), "--json", str(said)]
    assert main(scored) == 0
    found, figures = [json.loads(line) for line in out.read_text().splitlines()], json.loads(said.read_text())
    assert figures["cer"]["value"] == sum(row["cer"][0] for row in found) / sum(len(row["text"]) for row in found)
    assert (
        figures["cer"]["low"] <= figures["cer"]["value"] <= figures["cer"]["high"] < 0.5 and figures["wer"]["value"] < 1
    )
    assert f"over {len(found)} recordings" in capsys.readouterr().out

    name = str(made / "valid" / found[3]["audio_path"])
    assert main(["transcribe", str(trained), name]) == 0
    assert capsys.readouterr().out == f"{name}\t{found[3]['hypothesis']}\n"

    store = str(made / "valid.store")
    assert main(["evaluate", "--checkpoint", str(trained), "--store", store, "--json", str(said)]) == 0
    assert json.loads(said.read_text())["cer"] == pytest.approx(rows(trained)[-1]["heldout_cer"], rel=1e-5)


def test_transcribing_goes_on_after_a_kill(made, trained, tmp_path, monkeypatch, capsys):
    """Segments, silence and a name that is not UTF-8 among them; whole rows, in order, as without the kill."""
    known = [json.loads(line) for line in (made / "valid" / "manifest.jsonl").read_text().splitlines()][:3]
    folder = Path(shutil.copytree(made / "valid", tmp_path / "audio"))
    (folder / known[2]["audio_path"]).rename(folder / "caf\udce9.wav")
    rows = [known[0], {"audio_filepath": "000.wav", "offset": 0.0, "duration": 0.25, "text": ""}, known[1]]
    rows.append({"audio_path": "caf\udce9.wav", "text": known[2]["text"]})
    (folder / "m.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    line = ["transcribe", str(trained), "--manifest", str(folder / "m.jsonl"), "--out"]
    assert main([*line, str(tmp_path / "whole.jsonl")]) == 0
    real, heard = Pretrained.transcribe, []

    def transcribe(self, wave, *more):
        if len(heard) == 2:
            raise KeyboardInterrupt
        heard.append(len(wave))
        return real(self, wave, *more)

    out = tmp_path / "out.jsonl"
    with monkeypatch.context() as killed:
        killed.setattr(Pretrained, "transcribe", transcribe)
        assert main([*line, str(out)]) == 130
        assert not out.exists() and heard[1] == 4_000  # 0.25 s: the segment alone
        heard[:] = [0, 0]
        with (tmp_path / "out.transcribe.partial").open("ab") as partial:
            partial.write(b'{"name": "001.wav", "sta')  # half a line
        assert main([*line, str(out)]) == 130  # at the third recording: the first two are known
        heard[:] = [0]
        assert main([*line, str(out)]) == 130
        heard.clear()
        assert main([*line, str(out)]) == 0 and len(heard) == 1
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["audio_path"] for row in found] == [
        *(row["audio_path"] for row in known[:1]),
        "000.wav",
        known[1]["audio_path"],
        "caf\udce9.wav",
    ]
    assert (found[1]["offset"], found[1]["duration"], found[1]["text"]) == (0.0, 0.25, "")
    assert not (tmp_path / "out.transcribe.partial").exists()
    monkeypatch.setattr(Pretrained, "transcribe", None)
    capsys.readouterr()
    assert main([*line, str(out)]) == 0
    said = capsys.readouterr()
    assert "already complete" in said.err and "WER" in said.out
    out.write_text("my notes\n")
    assert main([*line, str(out)]) == 1 and out.read_text() == "my notes\n"
    assert "has no mark of `jepa-speech transcribe`: another program or an earlier version" in capsys.readouterr().err


@pytest.mark.parametrize("texts", [(True, False, True), (False, True, True), (False, False, False)])
def test_rows_without_a_text_are_transcribed_and_not_scored(texts, made, trained, tmp_path, capsys):
    """Absent or null, whichever row comes first; also when a finished file is shown again."""
    known = [json.loads(line) for line in (made / "valid" / "manifest.jsonl").read_text().splitlines()][:3]
    untold = [{"audio_path": row["audio_path"], "text": None} for row in known]
    del untold[0]["text"]
    manifest, out, said = made / "valid" / "some.jsonl", tmp_path / "out.jsonl", tmp_path / "said.json"
    write_jsonl(manifest, [row if told else bare for row, bare, told in zip(known, untold, texts, strict=True)])
    for _ in range(2):
        line = ["transcribe", str(trained), "--manifest", str(manifest), "--out", str(out), "--json", str(said)]
        assert main(line) == 0
        shown, found = capsys.readouterr(), [json.loads(row) for row in out.read_text().splitlines()]
        figures, scored = json.loads(said.read_text()), [row for row in found if "text" in row]
        assert [("text" in row, "cer" in row) for row in found] == [(told, told) for told in texts]
        assert all(f"{row['audio_path']}\t{row['hypothesis']}\n" in shown.out for row in found if "text" not in row)
        assert (figures["recordings"], figures["scored"]) == (3, sum(texts))
        if not any(texts):
            assert "some.jsonl: no row has a text" in shown.err and "CER" not in shown.out and "cer" not in figures
            continue
        assert "some.jsonl: 1 of 3 recordings have no text: they are transcribed, not scored" in shown.err
        assert "% over 2 recordings" in shown.out
        errors, length = map(sum, zip(*(row["cer"] for row in scored), strict=True))
        assert figures["cer"]["value"] == errors / length


def test_a_language_model_lets_it_write_only_words(made, trained, tmp_path):
    pytest.importorskip("flashlight.lib.text", reason="flashlight-text, of the extra [lm], is not installed")
    manifest, out, said = made / "valid" / "manifest.jsonl", tmp_path / "texts.jsonl", tmp_path / "said.json"
    texts = [json.loads(line)["text"] for line in manifest.read_text().splitlines()]
    words = sorted({word for text in texts for word in text.split()})
    line = ["transcribe", str(trained), "--manifest", str(manifest), "--out", str(out), "--json", str(said)]
    assert main(line) == 0
    greedy = json.loads(said.read_text())
    assert main([*line, "--lm", uniform(tmp_path / "lm.arpa", words), "--beam", "20"]) == 0
    found = json.loads(said.read_text())
    assert found["beam"]["size"] == 20 and "beam" not in greedy
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {word for row in rows for word in row["hypothesis"].split()} <= set(words)
    assert found["wer"]["value"] < greedy["wer"]["value"]


def test_the_best_checkpoint_transcribes_where_the_run_kept_it(made, trained, tmp_path, capsys):
    """Beside a newer one whose head has unlearnt everything."""
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    like = jax.eval_shape(build(config_of_a_run(run / "config.json")).init, jax.random.PRNGKey(0))
    params, aux_state = arranged(read_weights(run)[1], like, str(run))
    params["head"] = jax.tree.map(np.zeros_like, params["head"])
    zero = np.zeros((), np.int32)
    with Checkpoints(run, keep=1, best="heldout_cer") as checkpoints:
        worst = TrainState(params, aux_state, {}, zero, np.asarray(jax.random.PRNGKey(0)), zero, zero)
        checkpoints.save(151, worst, {"heldout_cer": 1.0})

    def told(best: str) -> tuple[dict, str, str]:
        config = config_of_a_run(run / "config.json")
        config["train"]["best"] = best
        (run / "config.json").write_text(json.dumps(config))
        name, said = str(made / "valid" / "000.wav"), tmp_path / "said.json"
        assert main(["transcribe", str(run), name, "--json", str(said)]) == 0
        shown = capsys.readouterr()
        return json.loads(said.read_text()), shown.out.strip().partition("\t")[2], shown.err

    capsys.readouterr()
    said, text, shown = told("heldout_cer")
    assert (said["step"], said["best"]) == (150, "heldout_cer") and text
    assert f"{run}: step 150, the best in heldout_cer" in shown
    for other in ("", "heldout_loss"):  # none named; or one with which nothing was saved
        said, text, shown = told(other)
        assert (said["step"], said["best"], text) == (151, "", "")
        assert f"{run}: step 151, the newest" in shown


def test_encoder_and_weights_come_from_the_run(tmp_path):
    """Also if it has no embedding for masked frames."""
    run = small_run(tmp_path / "pretrained", small_config("gmm_jepa"))
    config = config_dict(f"{CONFIGS}/finetune_ctc.py:{run}")
    assert config.init_from == str(run) and config.encoder.layerdrop == 0.1
    fresh = by_path({"params": jax.eval_shape(build(config).init, jax.random.PRNGKey(0))[0]})
    _, theirs = weights_of(str(run))
    missing = [path for path, leaf in fresh.items() if path not in theirs or theirs[path].shape != leaf.shape]
    assert sorted(missing) == ["params/head/bias", "params/head/kernel"]


@pytest.mark.parametrize("name", ["hubert", "pure_jepa"])  # transformers' own, and ours with its torch code
def test_encoder_and_weights_come_from_a_folder_of_transformers(name, tmp_path):
    config = plain(config_dict(f"{CONFIGS}/tiny.py:{name}")) if name == "pure_jepa" else small_config(name)
    run, folder = small_run(tmp_path / "run", config), tmp_path / "hf"
    assert main(["export", "hf", str(run), "--out", str(folder)]) == 0
    ours, theirs = (config_dict(f"{CONFIGS}/finetune_ctc.py:{place}") for place in (run, folder))
    assert build(ours).encoder.width == build(theirs).encoder.width == theirs.encoder.width == 16
    (_, before), (_, after) = weights_of(str(run)), weights_of(str(folder))
    encoder = [path for path in before if path.startswith("params/encoder/")]
    assert set(encoder) <= after.keys() and len(encoder) > 20
    for path in encoder:
        np.testing.assert_array_equal(before[path], after[path], err_msg=path)


def test_what_cannot_be_is_one_line(made, trained, tmp_path, capsys, monkeypatch):
    def told(code: int, line: list[str]) -> str:
        assert main(line) == code
        return capsys.readouterr().err.splitlines()[-1]

    no_texts = tmp_path / "no.store"
    prepare([made / "valid"], no_texts, "pcm16", workers=1)
    assert "8 have no field `text`" in told(1, command(made, tmp_path / "run", data__store=no_texts))
    assert "is no run folder" in told(2, command(made, tmp_path / "run", f"finetune_ctc.py:{tmp_path}"))
    wave = str(made / "valid" / "000.wav")
    assert "and not both" in told(2, ["transcribe", str(trained)])
    assert "beam 0: at least one" in told(2, ["transcribe", str(trained), wave, "--beam", "0"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install flashlight-text" in told(1, ["transcribe", str(trained), wave, "--lm", "lm.arpa"])
    monkeypatch.undo()
    assert "gone.wav: no such file" in told(1, ["transcribe", str(trained), "gone.wav"])
    (tmp_path / "m.jsonl").write_text(json.dumps({"audio_path": wave, "text": 5}) + "\n")
    line = ["transcribe", str(trained), "--manifest", str(tmp_path / "m.jsonl")]
    assert "m.jsonl:1: text = 5: expected str" in told(1, line)
