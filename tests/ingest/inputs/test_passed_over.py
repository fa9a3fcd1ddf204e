"""A listing counts and names what it leaves out: hidden folders, other audio, labels without a recording."""

import json
import os
import re
import tarfile
import tracemalloc
from pathlib import Path, PurePosixPath

import pyarrow
import pyarrow.parquet
import pytest
from support.audio_files import write_tones
from support.input_writers import jsonl, tar_of
from support.older_stores import as_an_older_store

from jepa_speech import cli
from jepa_speech.ingest.inputs import passed_over
from jepa_speech.ingest.inputs.passed_over import PassedOver, sentences, together
from jepa_speech.ingest.inputs.sidecars import Sidecars
from jepa_speech.ingest.manifest import entries
from jepa_speech.ingest.named_recordings import named
from jepa_speech.store.checking import check
from jepa_speech.store.joining import join
from jepa_speech.store.prepare import prepare
from jepa_speech.store.store import Store


def left_out(*inputs) -> dict[str, dict[str, tuple[int, str]]]:
    """{kind: {what: (count, first)}}, and checks that a store and a check say the same."""
    found = check(inputs)["passed_over"]
    passed = PassedOver()
    for _ in entries(inputs, None, passed):
        pass
    assert passed.found == found and json.loads(json.dumps(found)) == found
    return {kind: {what: tuple(note.values()) for what, note in whats.items()} for kind, whats in found.items()}


def sources(*inputs) -> list[str]:
    assert not any(entry.reason for entry in entries(inputs))
    return [entry.source for entry in entries(inputs)]


HIDDEN = [".git/annex/objects/ab", ".Trash-1000/files", ".ipynb_checkpoints", "speaker/.cache", ".a/.b/c"]


@pytest.mark.parametrize("folder", HIDDEN)
def test_hidden_folders_are_left_out(folder, tmp_path):
    wav = write_tones(tmp_path / "in" / "speaker", 1)[0].read_bytes()
    (tmp_path / "in" / folder).mkdir(parents=True)
    (tmp_path / "in" / folder / "gone.wav").write_bytes(wav)
    assert sources(tmp_path / "in") == ["speaker/tone000.wav"]
    hidden = folder[: folder.index("/", folder.index("."))] if "/" in folder[folder.index(".") :] else folder
    assert left_out(tmp_path / "in") == {"hidden": {"folders": (1, hidden)}}
    top = tmp_path / "in" / folder.split("/")[0]
    if folder == ".Trash-1000/files":  # unless it is named itself
        assert sources(top) == ["files/gone.wav"]
    members = {"speaker/a.wav": wav, f"{folder}/gone.wav": wav, f"{folder}/x.json": b"{"}
    archive = tar_of(tmp_path / "x.tar", members | {f"./{folder}/y.txt": b"\xff"})
    assert sources(archive) == ["speaker/a.wav"]
    assert left_out(archive) == {"hidden": {"files": (1, f"{folder}/gone.wav")}}


def test_links_into_a_hidden_folder_are_taken_by_their_names(tmp_path):
    """As in git-annex; also a folder that is a link to a hidden one."""
    chapter = tmp_path / "in" / "84" / "121123"
    chapter.mkdir(parents=True)
    for i, wav in enumerate(write_tones(tmp_path / "in" / ".git" / "annex" / "objects", 3)):
        (chapter / f"84-121123-000{i}.wav").symlink_to(Path("../../.git/annex/objects", wav.name))
    lines = "".join(f"84-121123-000{i} WORD {i}\n" for i in range(3))
    (chapter / "84-121123.trans.txt").write_text(lines)
    result = prepare([tmp_path / "in"], tmp_path / "store", workers=1)
    assert (result["records"], result["rejected"]) == (3, 0)
    rows = list(Store(tmp_path / "store").records())
    assert [(row["source"], row["text"], row["speaker"]) for row in rows] == [
        (f"84/121123/84-121123-000{i}.wav", f"WORD {i}", "84") for i in range(3)
    ]
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / ".real").mkdir()
    write_tones(tmp_path / "linked" / ".real", 1)
    (tmp_path / "linked" / "shown").symlink_to(".real", target_is_directory=True)
    assert sources(tmp_path / "linked") == ["shown/tone000.wav"]


def test_audio_that_is_not_read_is_named(tmp_path, capsys):
    wav = write_tones(tmp_path / "in", 2)[0].read_bytes()
    names = ["a.ape", "b.APE", "deep/c.mka", "d.raw", "e.webm", "f.mp4", "g.wv", "shards.tar", ".h.ape", "notes.txt"]
    (tmp_path / "in" / "deep").mkdir()
    for name in names:
        (tmp_path / "in" / name).write_bytes(b"?")
    whats = {".ape": (2, "a.ape"), ".mka": (1, "deep/c.mka")} | {
        f".{name}": (1, f"{letter}.{name}") for letter, name in zip("defg", ("raw", "webm", "mp4", "wv"), strict=True)
    }
    assert left_out(tmp_path / "in") == {"suffix": whats, "archive": {".tar": (1, "shards.tar")}}
    command = ["prepare", "--input", str(tmp_path / "in"), "--json", str(tmp_path / "found.json")]
    for how in (["--check"], ["--out", str(tmp_path / "store"), "--workers", "1"], ["--out", str(tmp_path / "store")]):
        assert cli.main(command + how) == 0
        assert (
            "not read: 2 .ape, 1 .raw, 1 .webm, 1 .mp4, 1 .wv and 1 more (first: a.ape): convert them"
            in capsys.readouterr().out
        )
        suffixes = json.loads((tmp_path / "found.json").read_text())["passed_over"]["suffix"]
        assert {suffix: note["count"] for suffix, note in suffixes.items()} == {k: n for k, (n, _) in whats.items()}
    assert cli.main(["inspect", str(tmp_path / "store")]) == 0
    assert "2 .ape" in capsys.readouterr().out
    archive = tar_of(tmp_path / "x.tar", {"a.wav": wav, "b.ape": b"?", "c.cls": b"1", "README": b"?"})
    assert left_out(archive) == {"suffix": {".ape": (1, "b.ape")}, "member": {".cls": (1, "c.cls")}}


def test_only_audio_that_is_not_read(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    os.mkdir(os.fsencode(tmp_path) + b"/in/caf\xe9")  # noqa: PTH102
    (tmp_path / os.fsdecode(b"in/caf\xe9/x.ape")).write_bytes(b"?")
    for how in (["--check"], ["--out", str(tmp_path / "store")]):
        assert cli.main(["prepare", "--input", str(tmp_path / "in"), *how, "--json", str(tmp_path / "found.json")]) == 1
        error = capsys.readouterr().err
        assert "no recordings found" in error and r"not read: 1 .ape (first: caf\udce9/x.ape): convert" in error
        assert json.loads((tmp_path / "found.json").read_text())["passed_over"]["suffix"][".ape"]["count"] == 1
    write_tones(tmp_path / "in", 1)
    assert prepare([tmp_path / "in"], tmp_path / "store", workers=1)["passed_over"]["suffix"][".ape"]["count"] == 1


def test_a_folder_for_embed_or_transcribe_says_it_too(tmp_path, capsys):
    write_tones(tmp_path, 1)
    (tmp_path / "x.ape").write_bytes(b"?")
    assert [entry.source for entry in named([str(tmp_path)])] == [str(tmp_path / "tone000.wav")]
    assert f"{tmp_path}: audio that is not read: 1 .ape (first: x.ape)" in capsys.readouterr().err


def test_parts_and_joined_stores_say_it_too(tmp_path):
    results = []
    for name in ("a", "b"):
        write_tones(tmp_path / name, 2, seed=ord(name))
        (tmp_path / name / "x.ape").write_bytes(b"?")
        results.append(prepare([tmp_path / name], tmp_path / f"store_{name}", workers=1)["passed_over"])
    joined = join([tmp_path / "store_a", tmp_path / "store_b"], tmp_path / "both")
    assert joined["passed_over"] == {"suffix": {".ape": {"count": 2, "first": "x.ape"}}} == together(results)
    as_an_older_store(tmp_path / "store_a")
    assert prepare([tmp_path / "a"], tmp_path / "store_a", workers=1)["passed_over"] == {}
    assert cli.main(["inspect", str(tmp_path / "store_a")]) == 0


def test_every_kind_has_its_sentence_and_memory_has_a_bound(monkeypatch):
    kinds, page = set(), (Path(__file__).parents[3] / "docs" / "manifests.md").read_text(encoding="utf-8")
    for path in Path(passed_over.__file__).parent.glob("*.py"):
        kinds |= set(re.findall(r'(?:passed\.add\(|return )"(\w+)"', path.read_text(encoding="utf-8")))
    assert kinds >= set(passed_over.SENTENCES) and all(f"| `{kind}` |" in page for kind in passed_over.SENTENCES)
    monkeypatch.setattr(passed_over, "KEPT", 3)
    passed = PassedOver()
    for i in range(9):
        passed.add("suffix", f".x{i}", "first")
    assert passed.found["suffix"].keys() == {".x0", ".x1", ".x2", passed_over.OTHERS}
    assert passed.found["suffix"][passed_over.OTHERS]["count"] == 6
    assert sentences({}) == []


def librispeech(folder):
    chapter = folder / "in" / "7" / "8"
    write_tones(chapter, 1)[0].rename(chapter / "7-8-0000.wav")
    (chapter / "._7-8-0001.flac").write_bytes(b"?")
    (chapter / "7-8.trans.txt").write_text("7-8-0000 YES\n7-8-0001 GONE\n7-8-0002 GONE\n")
    return folder / "in", {
        "hidden": {"files": (1, "7/8/._7-8-0001.flac")},
        "label": {"7-8.trans.txt": (2, f"{chapter}/7-8.trans.txt:2")},
    }


def transcripts_of_another_folder(folder):
    chapter = folder / "in" / "seven" / "8"
    write_tones(chapter, 1)[0].rename(chapter / "7-8-0000.wav")
    (chapter / "7-8.trans.txt").write_bytes(b"7-8-0000 \xff\n")
    return folder / "in", {"label": {"7-8.trans.txt": (1, f"{chapter}/7-8.trans.txt:1")}}


def labels_in_a_folder(folder):
    """As VCTK, TIMIT and LibriTTS have them."""
    write_tones(folder / "in" / "deep", 2)
    for name in (
        "tone000.txt",
        "tone001.normalized.txt",
        "tone001.TextGrid",
        "other.txt",
        ".tone000.txt",
        "tone000.csv",
    ):
        (folder / "in" / "deep" / name).write_text("?")
    whats = {".txt": (2, "deep/tone000.txt"), ".textgrid": (1, "deep/tone001.TextGrid")}
    return folder / "in", {"beside": whats, "manifest": {".csv": (1, "deep/tone000.csv")}}


def kaldi(folder):
    write_tones(folder, 2)
    (folder / "wav.scp").write_text("a tone000.wav\nb tone001.wav\n")
    (folder / "text").write_text("\ufeffa yes\nc gone\nb\td yes\n\n", encoding="utf-8")
    (folder / "utt2spk").write_text("a s\nb s\nb s\nx t\ny t\n")
    return folder, {
        "label": {"text": (1, f"c in {folder}/text"), "utt2spk": (2, f"x in {folder}/utt2spk")},
    }


def table(folder):
    audio = {"bytes": write_tones(folder, 1)[0].read_bytes(), "path": "a.wav"}
    row = {"audio": audio, "vector": b"1", "slots": {"a": [1], "b": {"c": "x"}}, "text": "x"}
    columns = pyarrow.Table.from_pylist([row])
    kind = pyarrow.dictionary(pyarrow.int8(), pyarrow.string())
    columns = columns.append_column("speaker", pyarrow.array(["s"]).cast(kind))
    columns = columns.append_column("when", pyarrow.array([0], pyarrow.timestamp("us")))
    columns = columns.append_column("nothing", pyarrow.nulls(1))
    pyarrow.parquet.write_table(columns, folder / "x.parquet")
    (entry,) = entries([folder / "x.parquet"])
    assert entry.labels == {"slots": {"a": [1], "b": {"c": "x"}}, "text": "x", "speaker": "s"}
    where = str(folder / "x.parquet")
    return folder / "x.parquet", {"column": {"vector (binary)": (1, where), "when (timestamp[us])": (1, where)}}


def start_and_end(folder):
    write_tones(folder, 3)
    rows = [{"path": f"tone00{i}.wav"} | more for i, more in enumerate(({}, {"start": 0.0, "end": 0.1}, {"end": 0.1}))]
    return jsonl(folder / "m.jsonl", rows), {"segment": {"m.jsonl": (2, f"{folder}/m.jsonl:2")}}


def other_names_of_times(folder):
    """Numbers, or texts in a table; a text that is none, and a word that only ends so, are no times."""
    names = ("start_time", "seg_begin", "onset_ms", "xmin", "Stop_s")
    write_tones(folder, len(names) + 2)
    rows = [{"path": f"tone00{i}.wav", name: "0.1" if i else 0} for i, name in enumerate(names)]
    rows += [{"path": "tone005.wav", "start": "of the day"}, {"path": "tone006.wav", "legend": 1}]
    return jsonl(folder / "m.jsonl", rows), {"segment": {"m.jsonl": (len(names), f"{folder}/m.jsonl:1")}}


@pytest.mark.parametrize(
    "kind",
    [librispeech, transcripts_of_another_folder, labels_in_a_folder, kaldi, table, start_and_end, other_names_of_times],
)
def test_what_belongs_to_no_recording_is_counted(kind, tmp_path):
    source, expected = kind(tmp_path)
    assert left_out(source) == expected
    assert all(entry.reason == "" for entry in entries([source]))


ARCHIVES = {  # members by name, labels by recording, sidecars without one
    "all recordings first": (["a.wav", "b.wav", "a.json", "b.txt"], {"a.wav": "a.json", "b.wav": "b.txt"}, 0),
    "all sidecars first": (["a.json", "b.txt", "a.wav", "b.wav"], {"a.wav": "a.json", "b.wav": "b.txt"}, 0),
    "both sidecars": (["a.txt", "a.wav", "b.wav", "a.json"], {"a.wav": "a.json"}, 0),
    "webdataset's keys": (
        ["1.audio.wav", "1.text.txt", "2.audio.wav", "2.text.txt"],
        {"1.audio.wav": "1.text.txt", "2.audio.wav": "2.text.txt"},
        0,
    ),
    "two channels": (["1.l.wav", "1.r.wav", "1.json"], {"1.l.wav": "1.json", "1.r.wav": "1.json"}, 0),
    "names with dots": (
        ["v1.2-1.wav", "v1.2-2.wav", "v1.2-2.json", "v1.2-1.json", "v1.2-3.json"],
        {"v1.2-1.wav": "v1.2-1.json", "v1.2-2.wav": "v1.2-2.json"},
        1,
    ),
    "names with dots, one of which fits": (["s.1.wav", "s.2.wav", "s.1.json"], {"s.1.wav": "s.1.json"}, 0),
    "names with dots, none of which fit": (["v1.2-1.wav", "v1.2-x.json", "v1.2-y.json", "v1.2-z.json"], {}, 3),
    "a name and more": (["a.wav", "a.json", "a.meta.json"], {"a.wav": "a.json"}, 1),
    "folders": (["x/a.wav", "y/a.wav", "y/a.json", "a.txt"], {"y/a.wav": "y/a.json"}, 1),
    "capitals": (["a.WAV", "a.JSON", "b.flac.txt"], {"a.WAV": "a.JSON"}, 1),
    "written twice": (["a.wav", "a.json", "a.json"], {"a.wav": "a.json"}, 1),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_sidecars_of_an_archive(case, tmp_path):
    members, expected, unused = ARCHIVES[case]
    contents = [json.dumps({"text": name}) if name.lower().endswith(".json") else name for name in members]
    archive = tar_of(tmp_path / "x.tar", [(name, data.encode()) for name, data in zip(members, contents, strict=True)])
    found = {entry.source: entry.labels for entry in entries([archive])}
    assert found == {name: {} for name in members if name.lower().endswith(".wav")} | {
        name: {"text": text} for name, text in expected.items()
    }
    assert left_out(archive).get("label", {}).get("x.tar", (0,))[0] == unused
    if unused:
        assert left_out(archive)["label"]["x.tar"][1] in members


def test_sidecars_take_a_few_bytes_each():
    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            sidecars = Sidecars()
            for _ in range(count):
                sidecars.add(member, path)
            sidecars.close()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    member, path = tarfile.TarInfo("a.json"), PurePosixPath("a.json")
    peak(10)
    assert (peak(12_000) - peak(2_000)) / 10_000 < 100
