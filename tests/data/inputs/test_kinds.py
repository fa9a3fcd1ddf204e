"""Every kind of input, built from the same real recordings, gives the same records."""

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import soundfile

from jepa_speech.data import audio
from jepa_speech.data.checking import check
from jepa_speech.data.manifest import entries
from jepa_speech.data.prepare import prepare
from jepa_speech.data.recording import recording
from jepa_speech.data.store import Store
from jepa_speech.errors import UserError

CLIPS = 4


@pytest.fixture(scope="module")
def clips(speech_data):
    """Rows of some real recordings of two speakers, with their absolute path and the hash of their samples."""
    manifest = speech_data / "librispeech" / "valid.manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    rows = [*rows[: CLIPS // 2], *rows[-CLIPS // 2 :]]
    for row in rows:
        row["file"] = speech_data / "librispeech" / row["audio_path"]
        row["name"] = row["file"].stem
        row["digest"] = hashlib.sha256(audio.load(row["file"])).hexdigest()
    return sorted(rows, key=lambda row: row["name"])


def jsonl(path: Path, rows: list[dict]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def copied(folder: Path, clips: list[dict]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copy(row["file"], folder)) for row in clips]


def joined(folder: Path, clips: list[dict]) -> tuple[Path, list[tuple[float, float]]]:
    """All recordings one after the other in one WAV, and where each begins and ends (s)."""
    waves = [soundfile.read(row["file"], dtype="int16")[0] for row in clips]
    soundfile.write(folder / "joined.wav", np.concatenate(waves), 16_000)
    ends = np.cumsum([len(wave) for wave in waves]) / 16_000
    return folder / "joined.wav", list(zip([0.0, *ends[:-1]], ends, strict=True))


def as_folder(folder, clips):
    copied(folder / "in", clips)
    return folder / "in"


def as_librispeech(folder, clips):
    for row in clips:
        speaker, chapter, _ = row["name"].split("-")
        copied(folder / "in" / speaker / chapter, [row])
        with (folder / "in" / speaker / chapter / f"{speaker}-{chapter}.trans.txt").open("a") as file:
            file.write(f"{row['name']} {row['text']}\n")
    return folder / "in"


def as_released_jsonl(folder, clips):
    copied(folder / "audio", clips)
    keys = ["audio_path", "wav_path"] * len(clips)
    rows = [{key: f"audio/{row['name']}.flac", "text": row["text"]} for key, row in zip(keys, clips, strict=False)]
    return jsonl(folder / "m.jsonl", rows)


def as_nemo(folder, clips):
    _, times = joined(folder, clips)
    return jsonl(
        folder / "m.json",
        [
            {"audio_filepath": "joined.wav", "offset": start, "duration": end - start, "text": row["text"]}
            for row, (start, end) in zip(clips, times, strict=True)
        ],
    )


def lhotse_cut(row, path, start, seconds, **more):
    source = {"type": "file", "channels": [0], "source": str(path)}
    recording = {"id": "r", "sources": [source], "sampling_rate": 16_000, "num_samples": 1, "duration": 99.0}
    said = {"id": "s", "recording_id": "r", "start": 0.0, "duration": seconds, "channel": 0, "text": row["text"]}
    cut = {"id": row["name"], "start": start, "duration": seconds, "channel": 0, "type": "MonoCut"}
    return cut | {"supervisions": [said | {"speaker": row["speaker"]}], "recording": recording} | more


def as_lhotse_cuts(folder, clips):
    copied(folder / "audio", clips)
    cuts = [lhotse_cut(row, f"audio/{row['name']}.flac", 0.0, round(row["duration"], 2)) for row in clips]
    for cut in cuts[::2]:  # all of a recording, and a stretch that happens to be all of it
        cut["recording"]["duration"] = cut["duration"]
    return jsonl(folder / "cuts.jsonl.gz", cuts)


def as_lhotse_segments(folder, clips):
    _, times = joined(folder, clips)
    cuts = [lhotse_cut(row, "joined.wav", a, b - a) for row, (a, b) in zip(clips, times, strict=True)]
    return jsonl(folder / "cuts.jsonl", cuts)


def as_fairseq(folder, clips, suffix=".wrd"):
    copied(folder / "audio", clips)
    lines = [f"{row['name']}.flac\t{soundfile.info(row['file']).frames}\n" for row in clips]
    (folder / "train.tsv").write_text(f"{folder / 'audio'}\n" + "".join(lines))
    texts = [row["text"] for row in clips]
    if suffix == ".ltr":
        texts = [" ".join(text.replace(" ", "|")) + " |" for text in texts]
    (folder / "train").with_suffix(suffix).write_text("".join(text + "\n" for text in texts))
    return folder / "train.tsv"


def as_fairseq_letters(folder, clips):
    return as_fairseq(folder, clips, ".ltr")


def kaldi(folder, clips):
    (folder / "data").mkdir()
    for name, value in (("text", "text"), ("utt2spk", "speaker")):
        (folder / "data" / name).write_text("".join(f"{row['name']} {row[value]}\n" for row in clips))
    return folder / "data"


def as_kaldi(folder, clips):
    data = kaldi(folder, clips)
    copied(data / "audio", clips)
    (data / "wav.scp").write_text("".join(f"{row['name']}\taudio/{row['name']}.flac\n" for row in clips))
    return data


def as_kaldi_segments(folder, clips):
    data = kaldi(folder, clips)
    path, times = joined(data, clips)
    (data / "wav.scp").write_text(f"rec {path}\n")
    lines = [f"{row['name']} rec {start:.6f} {end:.6f}\n" for row, (start, end) in zip(clips, times, strict=True)]
    (data / "segments").write_text("".join(lines))
    return data


def tar_of(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def as_tar(folder, clips):
    files = {}
    for row in clips:  # the sidecar before or after its recording
        name = "deep/" * 30 + row["name"]  # longer than a plain header holds
        files |= {f"{name}.json": json.dumps({"text": row["text"], "speaker": row["speaker"]}).encode()}
        files |= {f"{name}.flac": row["file"].read_bytes()}
    return tar_of(folder / "x.tar", files)


def as_tar_with_texts(folder, clips):
    files = {}
    for row in clips:
        files |= {f"{row['name']}.flac": row["file"].read_bytes(), f"{row['name']}.txt": row["text"].encode()}
    return tar_of(folder / "x.tar", files)


def as_parquet(folder, clips):
    table = pyarrow.table(
        {
            "audio": [{"bytes": row["file"].read_bytes(), "path": f"{row['name']}.flac"} for row in clips],
            "text": [row["text"] for row in clips],
            "speaker_id": list(range(len(clips))),
        }
    )
    pyarrow.parquet.write_table(table, folder / "x.parquet", row_group_size=3)
    return folder / "x.parquet"


KINDS = [
    as_folder, as_librispeech, as_released_jsonl, as_nemo, as_lhotse_cuts, as_lhotse_segments, as_fairseq,
    as_fairseq_letters, as_kaldi, as_kaldi_segments, as_tar, as_tar_with_texts, as_parquet,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_same_records_from_every_kind(kind, clips, tmp_path):
    source = kind(tmp_path, clips)
    rows = [recording(entry, "pcm16") for entry in entries([source])]
    assert [row["digest"] for row, _ in rows] == [clip["digest"] for clip in clips]
    if kind is not as_folder:
        assert [row["record"]["text"] for row, _ in rows] == [clip["text"] for clip in clips]
    for (row, _), clip in zip(rows, clips, strict=True):
        speaker = row["record"].get("speaker")
        assert speaker in (None, clip["speaker"], clip["speaker"].removeprefix("ls_"))
    result = check([source])
    assert (result["read"], result["good"], result["first_bad"]) == (CLIPS, CLIPS, None)


def test_one_store_of_every_kind(clips, tmp_path):
    """Through `prepare`: a recording that two inputs name is the same only if they name the same file."""
    sources = []
    for kind in (as_librispeech, as_kaldi_segments, as_tar, as_parquet):
        (tmp_path / kind.__name__).mkdir()
        sources.append(kind(tmp_path / kind.__name__, clips))
    result = prepare(sources, tmp_path / "store", workers=1)
    assert (result["read"], result["records"], result["rejected"]) == (4 * CLIPS, 4 * CLIPS, 0)
    records = list(Store(tmp_path / "store").records())
    assert [row["text"] for row in records] == 4 * [clip["text"] for clip in clips]
    assert records[CLIPS + 1]["start"] > 0 and records[2 * CLIPS]["speaker"] == clips[0]["speaker"]
    again = prepare([sources[2], sources[2]], tmp_path / "twice", workers=1, max_reject_fraction=0.5)
    assert (again["records"], again["reasons"]) == (CLIPS, {"duplicate": CLIPS})


def test_cells_of_a_table_in_any_order(clips, tmp_path):
    table = as_parquet(tmp_path, clips)
    listed = list(entries([table]))
    for i in (3, 0, 2, 1, 1):
        assert hashlib.sha256(audio.load(listed[i])).hexdigest() == clips[i]["digest"]


def test_parquet_without_pyarrow_says_what_to_install(clips, tmp_path):
    table = as_parquet(tmp_path, clips)
    code = (
        "import sys; sys.modules['pyarrow'] = sys.modules['pyarrow.parquet'] = None\n"
        "from jepa_speech import cli; sys.exit(cli.main(['prepare', '--check', '--input', sys.argv[1]]))"
    )
    run = subprocess.run([sys.executable, "-c", code, str(table)], capture_output=True, text=True, check=False)
    assert run.returncode == 1 and "pip install 'jepa-speech[parquet]'" in run.stderr and "Traceback" not in run.stderr


def test_a_packed_tar_is_refused_with_the_way_out(clips, tmp_path):
    with pytest.raises(UserError, match=r"gunzip -k .*x.tar.gz"):
        next(entries([tar_of(tmp_path / "x.tar.gz", {"a.flac": clips[0]["file"].read_bytes()}, "w:gz")]))


def test_a_table_whose_audio_stands_elsewhere(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"audio": ["a.flac"]}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="embed the audio"):
        next(entries([tmp_path / "x.parquet"]))


def test_fewer_texts_than_recordings(clips, tmp_path):
    source = as_fairseq(tmp_path, clips)
    (tmp_path / "train.wrd").write_text("one\ntwo\n")
    with pytest.raises(UserError, match=r"train.wrd: has only 2 lines"):
        list(entries([source]))


def test_samples_of_a_tsv_are_counted_at_the_rate_of_its_file(clips, tmp_path):
    wave = soundfile.read(clips[0]["file"])[0]
    soundfile.write(tmp_path / "a.wav", wave, 8000)  # as slow speech: twice as long, the same number of samples
    soundfile.write(tmp_path / "b.wav", wave, 8000)
    (tmp_path / "m.tsv").write_text(f".\na.wav\t{len(wave)}\nb.wav\t{2 * len(wave)}\n")
    (good, _), (bad, _) = (recording(entry, "pcm16") for entry in entries([tmp_path / "m.tsv"]))
    assert good["samples"] == 2 * len(wave) and bad["reason"] == "duration_mismatch"
    assert check([tmp_path / "m.tsv"])["reasons"] == {"duration_mismatch": 1}


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_a_segment_is_that_part_of_its_file(suffix, clips, tmp_path):
    wave, _ = soundfile.read(clips[0]["file"], dtype="int16")
    stereo = np.stack([wave, wave[::-1]], axis=1)
    soundfile.write(tmp_path / f"x.{suffix}", stereo, 16_000)
    whole, _ = soundfile.read(tmp_path / f"x.{suffix}", dtype="float32")
    row = {"path": f"x.{suffix}", "offset": 0.5, "duration": 1.0}
    (entry,) = entries([jsonl(tmp_path / "m.jsonl", [row])])
    expected = audio.standardise(whole[8000:24_000].mean(axis=1))
    np.testing.assert_allclose(audio.load(entry), expected, atol=1)  # float32 means of another grouping
    cut = lhotse_cut(clips[0], f"x.{suffix}", 0.5, 1.0, channel=1)
    cut["recording"]["sources"][0]["channels"] = [0, 1]
    (entry,) = entries([jsonl(tmp_path / "cuts.jsonl", [cut])])
    np.testing.assert_array_equal(audio.load(entry), audio.standardise(whole[8000:24_000, 1].copy()))


@pytest.mark.parametrize(
    ("offset", "seconds", "reason"),
    [(0, 99, "duration_mismatch"), (99, None, "duration_mismatch"), (0.1, 0.001, "too_short"), (0, 1.0, "")],
)
def test_segments_that_are_not_there(offset, seconds, reason, clips, tmp_path):
    copied(tmp_path, clips[:1])
    row = {"path": f"{clips[0]['name']}.flac", "offset": offset, "duration": seconds}
    (entry,) = entries([jsonl(tmp_path / "m.jsonl", [row])])
    row, record = recording(entry, "pcm16")
    assert row.get("reason", "") == reason and (record is None) == bool(reason)
    assert sum(check([tmp_path / "m.jsonl"])["reasons"].values()) == bool(reason)


def test_paths_of_recipes_are_relative_to_root(clips, tmp_path):
    """Kaldi's and Lhotse's, which are written where the recipe runs."""
    copied(tmp_path / "corpus", clips)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "wav.scp").write_text(f"a corpus/{clips[0]['name']}.flac\n")
    cut = lhotse_cut(clips[0], f"corpus/{clips[0]['name']}.flac", 0.0, clips[0]["duration"])
    inputs = [tmp_path / "data", jsonl(tmp_path / "data" / "cuts.jsonl", [cut])]
    assert [entry.reason for entry in entries(inputs)] == ["missing"] * 2
    assert [entry.reason for entry in entries(inputs, tmp_path)] == [""] * 2


@pytest.mark.parametrize(
    ("cut", "sources", "expected"),
    [
        (0, [[0]], None),
        (1, [[1]], None),  # the only one of its file
        (1, [[0], [1]], None),
        (1, [[0, 1]], 1),
        (5, [[4, 5]], 1),
        ([0, 1], [[0, 1]], None),
        (None, [[0, 1]], None),
        ([0, 1], [[0, 1, 2]], "refused"),
        ([0, 1], [[0], [1]], "refused"),
        (None, [[0], [1]], "refused"),
        (3, [[0, 1]], "refused"),
    ],
)
def test_channels_of_a_cut(cut, sources, expected, clips, tmp_path):
    row = lhotse_cut(clips[0], "x.wav", 0.0, 1.0) | {"channel": cut}
    files = [{"type": "file", "channels": channels, "source": "x.wav"} for channels in sources]
    row["recording"]["sources"] = files
    (tmp_path / "x.wav").touch()
    (entry,) = entries([jsonl(tmp_path / "m.jsonl", [row])])
    assert (entry.reason or entry.channel) == expected
    assert not entry.reason or "channels" in entry.detail
