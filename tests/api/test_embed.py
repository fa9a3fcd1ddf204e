"""`jepa_speech.embed`."""

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
from support.audio_files import tone, write_tones
from support.exported_runs import small_config, small_run

import jepa_speech
from jepa_speech.api import embed as module
from jepa_speech.errors import UsageError, UserError
from jepa_speech.features.grid import frames
from jepa_speech.ingest.audio import FULL_SCALE, load


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("embed") / "run", small_config("hubert"))


def test_each_file_gets_the_frames_of_represent(run, tmp_path, monkeypatch):
    """Returned, and in both kinds of files."""
    monkeypatch.chdir(tmp_path)
    write_tones(tmp_path / "in", 2, 0.3)
    soundfile.write("other.wav", tone(0.4, 5, 8_000), 8_000)
    audio = ["in", tmp_path / "other.wav", "in/tone000.wav"]
    names = ["in/tone000.wav", "in/tone001.wav", str(tmp_path / "other.wav")]
    results = jepa_speech.embed(run, audio, layer=1)
    model, found = jepa_speech.load_pretrained(run), results.pop("features")
    assert list(found) == names
    for name in names:
        wave = load(tmp_path / name)
        np.testing.assert_allclose(found[name], model.represent(wave / FULL_SCALE, 16_000).layers[1], atol=1e-6)
        assert found[name].shape == (frames(len(wave)), 16) and found[name].dtype == np.float32
    assert results == {
        **{"files": 3, "frames": sum(map(len, found.values())), "width": 16},
        **{"layer": 1, "layers": 3, "frame_rate": 50.0, "step": 0},
    }
    for out in ("deep/a.npz", "deep/a.parquet"):
        for done in (False, True):
            again = jepa_speech.embed(run, audio, out, layer=1)
            assert again == results | {"out": out, "already_complete": done}
    rows = pyarrow.parquet.read_table("deep/a.parquet").to_pydict()
    assert rows["path"] == names
    with np.load("deep/a.npz", allow_pickle=False) as arrays:
        assert arrays.files == names
        for name, features in zip(names, rows["features"], strict=True):
            np.testing.assert_array_equal(np.float32(features), found[name])
            np.testing.assert_array_equal(arrays[name], found[name])


@pytest.mark.parametrize(
    ("names", "layer", "error", "says"),
    [
        (["a.wav"], 3, UsageError, "layer 3: this encoder has the layers 0 to 2"),
        (["a.wav"], -1, UsageError, "layer -1: this encoder has the layers 0 to 2"),
        (["gone.wav", "a.wav", "lost.wav"], None, UserError, "gone.wav: no such file, and 1 more"),
        (["text.wav"], None, UserError, "text.wav: "),
        (["m.json"], None, UserError, "m.json: a manifest or an archive, not a recording; name its recordings"),
        (["cv.tsv"], None, UserError, "cv.tsv: a manifest or an archive, not a recording; name its recordings"),
        (["short.wav"], None, UserError, "short.wav: "),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_no_file(names, layer, error, says, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", tone(0.3), 16_000)
    soundfile.write("short.wav", tone(0.01), 16_000)
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "m.json").write_text('{"audio_filepath": "a.wav", "text": "x"}\n')
    (tmp_path / "cv.tsv").write_text("client_id\tpath\tsentence\nab\ta.wav\tx\n")
    with pytest.raises(error) as raised:
        jepa_speech.embed(run, names, "out.npz", layer=layer)
    assert str(raised.value).startswith(says)
    assert not list(tmp_path.glob("*out.npz*"))


def test_it_goes_on_after_a_kill(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tones(tmp_path / "in", 3, 0.3)
    names, done, real = [f"in/tone00{i}.wav" for i in range(3)], [], module.layer_of
    whole = jepa_speech.embed(run, names)["features"]

    def layer_of(model, entry, layer):
        if len(done) == 2 and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            raise KeyboardInterrupt
        done.append(entry.source)
        return real(model, entry, layer)

    monkeypatch.setattr(module, "layer_of", layer_of)
    with pytest.raises(KeyboardInterrupt):
        jepa_speech.embed(run, names, "deep/out.npz")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out.embed.partial"]
    jepa_speech.embed(run, names, "deep/out.npz")
    assert done == names and [path.name for path in (tmp_path / "deep").iterdir()] == ["out.npz"]
    with np.load("deep/out.npz") as found:
        assert all(np.array_equal(found[name], whole[name]) for name in names)
    soundfile.write(names[0], tone(0.4, 7), 16_000)  # another recording by now
    assert not jepa_speech.embed(run, names, "deep/out.npz")["already_complete"] and done == [*names, *names]


def test_a_file_that_it_did_not_write_stays(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tones(tmp_path, 1, 0.3)
    np.savez("mine.npz", x=np.ones(3))
    for name, content in (("text.npz", b"notes"), ("table.parquet", b"notes"), ("mine.npz", None)):
        path = tmp_path / name
        path.write_bytes(content or path.read_bytes())
        before = path.read_bytes()
        with pytest.raises(UserError, match=f"{name} has no mark of `jepa-speech embed`: another program"):
            jepa_speech.embed(run, "tone000.wav", name)
        assert path.read_bytes() == before
    with pytest.raises(UsageError, match=r"must end in \.npz or \.parquet"):
        jepa_speech.embed(run, "tone000.wav", "features.h5")
