"""Every kind of input, built from the same real recordings, gives the same records."""

import hashlib
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
from support.audio_files import tone, write_tones
from support.input_writers import (
    KINDS,
    as_fairseq,
    as_folder,
    as_kaldi_segments,
    as_librispeech,
    as_parquet,
    as_tar,
    copied,
    jsonl,
    lhotse_cut,
    tar_of,
)

from jepa_speech.errors import UserError
from jepa_speech.ingest import audio
from jepa_speech.ingest.manifest import entries
from jepa_speech.ingest.recording import recording
from jepa_speech.store.checking import check
from jepa_speech.store.prepare import prepare
from jepa_speech.store.store import Store


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
    assert (result["read"], result["good"], result["first_bad"]) == (len(clips), len(clips), None)


def test_one_store_of_every_kind(clips, tmp_path):
    """Through `prepare`: a recording that two inputs name is the same only if they name the same file."""
    sources = []
    for kind in (as_librispeech, as_kaldi_segments, as_tar, as_parquet):
        (tmp_path / kind.__name__).mkdir()
        sources.append(kind(tmp_path / kind.__name__, clips))
    result = prepare(sources, tmp_path / "store", workers=1)
    assert (result["read"], result["records"], result["rejected"]) == (4 * len(clips), 4 * len(clips), 0)
    records = list(Store(tmp_path / "store").records())
    assert [row["text"] for row in records] == 4 * [clip["text"] for clip in clips]
    assert records[len(clips) + 1]["start"] > 0 and records[2 * len(clips)]["speaker"] == clips[0]["speaker"]
    again = prepare([sources[2], sources[2]], tmp_path / "twice", workers=1, max_reject_fraction=0.5)
    assert (again["records"], again["reasons"]) == (len(clips), {"duplicate": len(clips)})


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
    assert run.returncode == 1 and "pip install pyarrow" in run.stderr and "Traceback" not in run.stderr


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
    expected = audio.to_int16(whole[8000:24_000].mean(axis=1))
    np.testing.assert_allclose(audio.load(entry), expected, atol=1)  # float32 means of another grouping
    cut = lhotse_cut(clips[0], f"x.{suffix}", 0.5, 1.0, channel=1)
    cut["recording"]["sources"][0]["channels"] = [0, 1]
    (entry,) = entries([jsonl(tmp_path / "cuts.jsonl", [cut])])
    np.testing.assert_array_equal(audio.load(entry), audio.to_int16(whole[8000:24_000, 1].copy()))


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
    found = list(entries(inputs))
    assert [entry.reason for entry in found] == ["missing"] * 2
    assert all("pass --root DIR, the folder where the recipe was run" in entry.detail for entry in found)
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


SAID = {"name": "c", "text": "words", "speaker": "s"}
NO_CHANNELS = ["1", "A", 1.0, True, -1, [[1]], ["0", "1"], {"a": 1}]


@pytest.mark.parametrize("channel", NO_CHANNELS)
def test_what_is_no_channel_is_refused(channel, tmp_path):
    """Before, it was passed over, and the mean of all channels was read."""
    soundfile.write(tmp_path / "x.wav", np.stack([tone(2.0), tone(2.0, 1)], axis=1), 16_000)
    cut = lhotse_cut(SAID, "x.wav", 0.5, 1.0, channel=1)
    cut["recording"]["sources"][0]["channels"] = [0, 1]
    (said,), (source,) = cut["supervisions"], cut["recording"]["sources"]
    in_source = cut["recording"] | {"sources": [source | {"channels": channel}]}
    for wrong, reason in (
        (cut | {"channel": channel}, "bad_channel"),
        (cut | {"recording": in_source}, "bad_channel"),
        (cut | {"supervisions": [said | {"channel": channel}]}, "bad_label"),
    ):
        (entry,) = entries([jsonl(tmp_path / "cuts.jsonl", [wrong])])
        assert entry.reason == reason and "channel" in entry.detail


@pytest.mark.parametrize(
    ("rest", "reason", "channel"),
    [("", "", None), ("0", "", 0), ("1", "", 1), ("A", "bad_channel", None), ("-1", "bad_channel", None),
     ("1.0", "bad_channel", None), ("0 1", "bad_channel", None), ("9999999999", "bad_channel", None)],
)  # fmt: skip
def test_the_channel_of_a_kaldi_segment(rest, reason, channel, tmp_path):
    write_tones(tmp_path, 1)
    (tmp_path / "wav.scp").write_text("r tone000.wav\n")
    (tmp_path / "segments").write_text(f"u r 0.1 0.5 {rest}\n")
    (entry,) = entries([tmp_path])
    assert (entry.reason, entry.channel) == (reason, channel)
    (tmp_path / "segments").write_text("u r 0.1 1_0\n")
    assert [entry.reason for entry in entries([tmp_path])] == ["bad_segment"]


def test_a_cut_of_a_file_whose_channels_are_not_listed(tmp_path):
    both = np.stack([tone(2.0), tone(2.0, 1)], axis=1).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", both, 16_000, "FLOAT")
    for channel, expected in ((1, both[:, 1]), (0, both[:, 0]), ([0, 1], both.mean(axis=1)), (None, both.mean(axis=1))):
        cut = lhotse_cut(SAID, "x.wav", 0.5, 1.0, channel=channel)
        cut["recording"]["sources"][0]["channels"] = None
        (entry,) = entries([jsonl(tmp_path / "cuts.jsonl", [cut])])
        np.testing.assert_allclose(audio.load(entry), audio.to_int16(expected[8000:24_000].copy()), atol=1)


def test_words_of_another_channel_are_not_the_cut_s(tmp_path):
    write_tones(tmp_path, 1, seconds=2.0)
    cut = lhotse_cut(SAID, "tone000.wav", 0.5, 1.0, channel=0)
    (said,) = cut["supervisions"]
    for spoken_in, is_text in ((0, True), ([0], True), ([0, 1], True), (None, True), (1, False), ([1], False)):
        manifest = jsonl(tmp_path / "cuts.jsonl", [cut | {"supervisions": [said | {"channel": spoken_in}]}])
        (entry,) = entries([manifest])
        assert ("text" in entry.labels) == is_text and not entry.reason
