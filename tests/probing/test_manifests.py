"""Manifests of probes and of `transcribe`: read as `prepare` reads them, and every label checked."""

import gzip
import json

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
from support.audio_files import tone
from support.input_writers import tar_of

from jepa_speech.batches.transcripts import texts
from jepa_speech.errors import UserError
from jepa_speech.files import write_jsonl
from jepa_speech.probing import abx, asr, asv, evaluate
from jepa_speech.probing.cache import Cache
from jepa_speech.probing.dataset import read_manifest, wave_of
from jepa_speech.probing.extract import layers_of
from jepa_speech.probing.phones import frame_phones
from jepa_speech.probing.segments import Phones, segments, within
from jepa_speech.store.prepare import prepare
from jepa_speech.store.store import Store

CUT = {"id": "c", "type": "MonoCut", "start": 0.5, "duration": 0.75, "channel": 0,
       "supervisions": [{"start": 0.0, "duration": 0.75, "text": "a Cut"}],
       "recording": {"id": "r", "sampling_rate": 16_000, "num_samples": 24_000, "duration": 1.5,
                     "sources": [{"type": "file", "channels": [0], "source": "b.wav"}]}}  # fmt: skip
ROWS = [
    {"audio_path": "a.wav", "text": "Whole", "speaker": None, "duration": 1.5},
    {"audio_filepath": "a.wav", "offset": 0.25, "duration": 0.5, "text": "a  stretch"},
    {"path": "sub/c.wav", "offset": 1, "text": "to the end"},
    {"wav_path": "./b.wav", "text": ""},
    CUT,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manifests")
    (folder / "sub").mkdir()
    for number, name in enumerate(("a.wav", "b.wav", "sub/c.wav")):
        soundfile.write(folder / name, tone(1.5, number), 16_000)
    return folder


def encoded(form: str) -> bytes:
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    if form == "blank lines":
        lines = ["", *lines[:2], "  ", *lines[2:], "", ""]
    end = "\r\n" if form == "CRLF" else "\n"
    data = (end.join(lines) + end).encode("utf-8-sig" if form == "BOM" else "utf-8")
    return gzip.compress(data) if form == "gzip" else data


@pytest.mark.parametrize("form", ["plain", "BOM", "blank lines", "CRLF", "gzip"])
def test_it_names_the_stretches_and_texts_that_prepare_finds(folder, tmp_path, form):
    manifest = folder / f"{form}.jsonl"
    manifest.write_bytes(encoded(form))
    found = read_manifest(manifest, asr.text_of)
    prepare([manifest], tmp_path / "store", "pcm16", workers=1)
    store = Store(tmp_path / "store")
    assert [u.target for u in found] == list(texts(store)) == ["whole", "a stretch", "to the end", "", "a cut"]
    for number, utterance in enumerate(found):
        np.testing.assert_array_equal(wave_of(utterance.entry), store.read(number))
    assert [u.key for u in found] == ["a.wav", "a.wav@0.25+0.5", "sub/c.wav@1", "./b.wav", "b.wav@0.5+0.75"]
    assert found[0].speaker == ""


def test_a_stretch_has_features_of_its_own_in_the_cache(folder, tmp_path):
    write_jsonl(folder / "two.jsonl", ROWS[:2])
    cache, calls = Cache(tmp_path / "cache", "system"), []

    def extract(wave, rate):
        calls.append(len(wave))
        return [wave[: len(wave) // 320 * 320].reshape(-1, 320)]

    both = read_manifest(folder / "two.jsonl", asr.text_of)
    for _ in range(2):
        assert [layers_of(u.entry, extract, cache).shape[1] for u in both] == [75, 25]
    assert calls == [24_000, 8_000]


def test_recordings_in_one_file_have_their_own_features_and_phones(folder, tmp_path):
    """In an archive or table, the path is the same for all."""
    names = ["a.wav", "sub/c.wav"]
    archive = tar_of(tmp_path / "test.tar", {name: (folder / name).read_bytes() for name in names})
    rows = [{"audio": {"bytes": (folder / name).read_bytes(), "path": name}} for name in names]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "test.parquet")
    write_jsonl(tmp_path / "phones.jsonl", [{"audio_path": name, "phones": [[name[-5], 0.0, 1.0]]} for name in names])
    cache = Cache(tmp_path / "cache", "system")
    for manifest in (archive, tmp_path / "test.parquet"):
        utterances = Phones(tmp_path).of(read_manifest(manifest))
        assert [u.target for u in utterances] == [[("a", 0.0, 1.0)], [("c", 0.0, 1.0)]]
        for utterance in utterances:
            wave = wave_of(utterance.entry)
            found = layers_of(utterance.entry, lambda wave, rate: [wave[:32_000:320, None]], cache)
            np.testing.assert_array_equal(found[0, :, 0], wave[::320])
    assert len(list(tmp_path.glob("cache/*/*.npy"))) == 2  # contents are the same in both


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"audio_path": "a.wav", "text": "caf\xe9"}', "(bad_json)"),
        (b'["a.wav", "x"]', "a JSON object was expected, not list"),
        (b'{"text": "x"}', "none of audio_path, wav_path"),
        (b'{"audio_path": "a.wav", "offset": -1, "text": "x"}', "offset -1"),
        (b'{"audio_path": "a.wav", "offset": 1, "duration": 0, "text": "x"}', "duration 0"),
        (b"[" * 100_000, "(bad_json)"),
    ],
)
def test_a_line_that_prepare_refuses_is_named(tmp_path, line, words):
    soundfile.write(tmp_path / "a.wav", tone(0.3), 16_000)
    (tmp_path / "m.jsonl").write_bytes(b'{"audio_path": "a.wav", "text": "x"}\n\n' + line + b"\n")
    with pytest.raises(UserError, match=r"m\.jsonl:3: ") as caught:
        read_manifest(tmp_path / "m.jsonl", asr.text_of)
    assert words in str(caught.value) and "\n" not in str(caught.value)


NOTHING = [None, float("nan")]
FIELDS = {
    "speaker": ("label", [*NOTHING, "", "  ", 0.5, True, ["s1"], {"a": 1}]),
    "keywords": ("label", [*NOTHING, "", 2.0, False, ["yes"]]),
    "intent": ("intent", [*NOTHING, "", 1.5, ["on", "lamp"]]),
    "emotion": ("emotion", [*NOTHING, "", [], 0.1]),
    "asv": ("speaker", [*NOTHING, "", 1.0, True]),
    "abx": ("speaker", [*NOTHING, "", ["s1"]]),
    "asr": ("text", [*NOTHING, 5, True, ["a", "b"], {"text": "a"}]),
    "slots": ("slot_tags", [*NOTHING, "O B-x", ["O"], ["O", None], ["O", 5], ["O", "X-y"], ["O", "B-"], {"a": "O"}]),
    "slot_values": ("slots", [*NOTHING, "small", ["size"], {"size": ["s"]}, {"size": 1.5}, {"size": True}, {"": "x"}]),
}  # fmt: skip
SOUND = {"label": "yes", "intent": "on", "emotion": "calm", "speaker": "s1", "text": "one two",
         "slot_tags": ["O", "B-x"], "slots": {"size": "small"}}  # fmt: skip


@pytest.mark.parametrize(("task", "field", "value"), [(t, f, v) for t, (f, values) in FIELDS.items() for v in values])
def test_a_label_that_is_missing_or_none_is_one_line(folder, tmp_path, task, field, value):
    """Never the word or class "None"."""
    audio = {"audio_path": str(folder / "a.wav")}
    (tmp_path / "phones.jsonl").write_text(json.dumps(audio | {"phones": []}) + "\n")
    for split in ("train", "valid", "test"):
        rows = [audio | SOUND, audio | SOUND | {field: value}]
        for name in (f"{split}.manifest.jsonl", f"sid.{split}.manifest.jsonl"):
            (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"manifest\.jsonl:2: ") as caught:
        evaluate.TASKS[task].read(tmp_path)
    if value in NOTHING[:1] or value != value:
        assert f"the field {field} is missing" in str(caught.value)
    assert field in str(caught.value) and "\n" not in str(caught.value)


def test_labels_may_be_whole_numbers_and_slots_unfilled(folder, tmp_path):
    row = {
        "audio_path": str(folder / "a.wav"),
        "label": 7,
        "speaker": 3,
        "slots": {"size": 2, "roast": None, "milk": ""},
    }
    for split in ("train", "valid", "test"):
        write_jsonl(tmp_path / f"{split}.manifest.jsonl", [row, row | {"label": "7"}])
    found = evaluate.TASKS["keywords"].read(tmp_path)["test"]
    assert [(u.target, u.speaker) for u in found] == [("7", "3"), ("7", "3")]
    assert len({u.key for u in found}) == 2  # the same recording twice: both count
    assert [u.target for u in evaluate.TASKS["slot_values"].read(tmp_path)["train"]] == [{"size": "2"}] * 2


@pytest.mark.parametrize(
    ("phones", "words"),
    [
        (None, "the field phones is missing"),
        ("AA", "expected list"),
        ([["B", 0.0, 0.5], ["AA", 0.2, 0.7]], "B lasts from 0 to 0.5 s, but AA begins at 0.2"),
        ([["B", 0.0, 0.9], ["AA", 0.2, 0.4], ["C", 0.9, 1.0]], "AA begins at 0.2"),  # nested
        ([["AA", 0.2, 0.4], ["B", 0.0, 0.9]], "AA begins at 0.2"),  # out of order and nested
        ([["B", 0.0]], "expected [label, start, end]"),
        ([["B", 0.0, 0.1, 0.9]], "expected [label, start, end]"),
        ([{"label": "B", "start": 0.0, "end": 0.1}], "expected [label, start, end]"),
        ([None], "expected [label, start, end]"),
        ([["B", "0.0", "0.1"]], "expected int or float"),
        ([["B", None, 0.1]], "the field start is missing"),
        ([["B", 0.0, float("nan")]], "the field end is missing"),
        ([["B", 0.0, float("inf")]], "the field end is missing"),
        ([["B", 0.0, True]], "expected int or float"),
        ([["B", -0.1, 0.1]], "from -0.1 to 0.1 s"),
        ([["B", 0.3, 0.1]], "from 0.3 to 0.1 s"),
        ([[None, 0.0, 0.1]], "the field label is missing"),
        ([[["B"], 0.0, 0.1]], "expected str or int"),
    ],
)
def test_phones_of_another_form_are_one_line(tmp_path, phones, words):
    rows = [{"audio_path": "a.wav", "phones": [["A", 0, 1]]}, {"audio_path": "b.wav", "phones": phones}]
    (tmp_path / "phones.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"phones\.jsonl:2: ") as caught:
        Phones(tmp_path)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_intervals_out_of_order_are_sorted():
    sound = [["B", 0.0, 0.3], [7, 0.3, 0.5], ["", 0.5, 0.5], ["C", 0.6, 0.8]]
    rng = np.random.default_rng(0)
    for _ in range(5):
        mixed = [sound[i] for i in rng.permutation(4)]
        found = segments({"phones": mixed}, "here")
        assert found == [("B", 0.0, 0.3), ("7", 0.3, 0.5), ("", 0.5, 0.5), ("C", 0.6, 0.8)]
        assert [p for p in frame_phones(found, 50) if p] == ["B"] * 15 + ["7"] * 10 + ["C"] * 10


def test_phones_of_a_stretch_are_those_in_it(folder, tmp_path, capsys):
    (tmp_path / "a.wav").symlink_to(folder / "a.wav")
    rows = [{"path": "./a.wav", "phones": [["A", 0, 0.4], ["B", 0.4, 0.8], ["C", 0.8, 1.5]]},
            {"path": "other.wav", "phones": []}]  # fmt: skip
    (tmp_path / "phones.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\n\n".join(json.dumps(row).encode() for row in rows))
    write_jsonl(
        tmp_path / "m.jsonl", [{"audio_path": "a.wav", "offset": 0.3, "duration": 0.5}, {"audio_path": "a.wav"}]
    )
    phones = Phones(tmp_path)
    first, second = phones.of(read_manifest(tmp_path / "m.jsonl"))
    assert [label for label, *_ in first.target] == ["A", "B"] and len(second.target) == 3
    np.testing.assert_allclose([times for _, *times in first.target], [(0, 0.1), (0.1, 0.5)])
    assert within(second.target, first.entry) == first.target
    phones.report_unused()
    assert "phones.jsonl:3: other.wav is not in a manifest" in capsys.readouterr().err


LISTS = {
    "trials": (asv.read_trials, "1 a b", "0 a b"),
    "items": (abx.read_items, "a 0.1 0.2 B A C s1", "b 0 1 B A C s1"),
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_are_read_as_text(tmp_path, kind):
    read, first, second = LISTS[kind]
    known = ({"a", "b"},) if kind == "trials" else ()
    path = tmp_path / "list.txt"
    path.write_text(f"{first}\n{second}\n")
    plain = read(path, *known)
    path.write_bytes(b"\xef\xbb\xbf" + f"{first}\r\n\r\n{second}\n\n".encode())
    assert read(path, *known) == plain and len(plain) == 2
    path.write_bytes(f"{first}\n\n{second} caf".encode() + b"\xe9\n")
    with pytest.raises(UserError, match=r"list\.txt:3: byte 0xe9 in column \d+ is not UTF-8"):
        read(path, *known)


@pytest.mark.parametrize("times", ["nan 1", "0 inf", "-1 1", "0.5 0.2", "0.2 0.2", "x 1"])
def test_items_have_times_in_order(tmp_path, times):
    (tmp_path / "list.item").write_text(f"a 0 1 B A C s1\na {times} B A C s1\n")
    with pytest.raises(UserError, match=r"list\.item:2: "):
        abx.read_items(tmp_path / "list.item")


def test_items_of_unknown_recordings_are_told(folder, tmp_path, capsys):
    write_jsonl(tmp_path / "m.jsonl", [{"audio_path": str(folder / "a.wav"), "speaker": "s"}])
    utterances = read_manifest(tmp_path / "m.jsonl", asv.speaker_of)
    (tmp_path / "x.item").write_text("a 0 1 B A C s1\nghost 0 1 B A C s1\n")
    assert len(abx.with_items(utterances, tmp_path / "x.item")[0].target) == 1
    assert "1 of 2 recordings not in the manifest, such as ghost" in capsys.readouterr().err
    (tmp_path / "x.item").write_text("ghost 0 1 B A C s1\n")
    with pytest.raises(UserError, match="1 of 1 recording not in the manifest"):
        abx.with_items(utterances, tmp_path / "x.item")


@pytest.mark.parametrize("factor", [1000, 1.2])
def test_times_beyond_the_end_of_a_recording_are_one_line(folder, tmp_path, factor):
    """Such as milliseconds, or another recording's."""
    rows = [{"audio_path": str(folder / name), "speaker": "s"} for name in ("a.wav", "b.wav")]
    phones = [[["A", 0, 0.4], ["B", 0.4, end]] for end in (1.53, 1.5 * factor)]  # the first is rounded
    write_jsonl(tmp_path / "m.jsonl", rows)
    utterances = read_manifest(tmp_path / "m.jsonl")
    write_jsonl(tmp_path / "phones.jsonl", [row | {"phones": one} for row, one in zip(rows, phones, strict=True)])
    assert len(Phones(tmp_path).of(utterances[:1])[0].target) == 2
    with pytest.raises(UserError, match=rf"phones\.jsonl:2: phones: {1.5 * factor:g} s is beyond the end of .*1\.50 s"):
        Phones(tmp_path).of(utterances)
    items = [
        f"a 0 1.53 B A C s\nb 0.5 {0.8 * factor:g} B A C s\nb 0.5 {1.5 * factor:g} B A C s\n",
        "a 0 1.53 B A C s\n",
    ]
    (tmp_path / "x.item").write_text(items[1])
    assert len(abx.with_items(utterances, tmp_path / "x.item")[0].target) == 1
    (tmp_path / "x.item").write_text(items[0])
    with pytest.raises(UserError, match=rf"x\.item:3: {1.5 * factor:g} s is beyond the end of .*1\.50 s"):
        abx.with_items(utterances, tmp_path / "x.item")


def test_what_a_manifest_leaves_out_is_named(folder, capsys):
    """In the error, where that is the reason for it."""
    longer = CUT | {"supervisions": [{"start": -0.3, "duration": 2.0, "text": "reaches over both ends"}]}
    write_jsonl(folder / "cuts.jsonl", [CUT, longer])
    with pytest.raises(
        UserError, match=r"cuts\.jsonl:2: the field text is missing; texts left out, because the cut holds only a part"
    ):
        read_manifest(folder / "cuts.jsonl", asr.text_of)
    assert len(read_manifest(folder / "cuts.jsonl")) == 2
    assert "texts left out, because the cut holds only a part of them: 1 of cuts.jsonl" in capsys.readouterr().err
