"""A store written in parts is the one that a single process writes, whatever their number, order, moment and fate."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.audio_files import write_tones
from support.folder_contents import contents
from support.kills import at_every_rename

from jepa_speech.errors import UsageError, UserError
from jepa_speech.files import temporary_name
from jepa_speech.store.prepare import merge, prepare
from jepa_speech.store.store import Store


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr("jepa_speech.store.chunks.CHUNK_RECORDS", 4)


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    """Thirty recordings, one of which is broken: eight shards."""
    folder = tmp_path_factory.mktemp("corpus") / "audio"
    write_tones(folder, 30)
    (folder / "tone011.wav").write_bytes(b"no audio")
    return folder


def run(audio, out, part=None, **others):
    return prepare([audio], out, workers=1, max_reject_fraction=0.1, part=part, **others)


@pytest.fixture(scope="module")
def whole(audio, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jepa_speech.store.chunks.CHUNK_RECORDS", 4)
        out = tmp_path_factory.mktemp("whole") / "store"
        run(audio, out)
    return contents(out)


@pytest.mark.parametrize(
    "parts", [["0/1"], ["2/3", "0/3", "1/3"], ["3/4", "1/4", "0/4", "1/4", "2/4"], ["8/9", *"01234567"]]
)
def test_parts_in_any_order_are_one_store_byte_for_byte(audio, whole, tmp_path, parts):
    n = int(parts[0].partition("/")[2])
    results = [run(audio, tmp_path / "store", (int(text.partition("/")[0]), n)) for text in parts]
    assert not any(result["whole"] for result in results)
    assert sum({result["part"]: result["read"] for result in results}.values()) == 30
    with pytest.raises(UserError, match="unfinished one"):
        Store(tmp_path / "store")
    merged = merge(tmp_path / "store")
    assert contents(tmp_path / "store") == whole
    assert (merged["records"], merged["rejected"], merged["whole"]) == (29, 1, True)
    assert merge(tmp_path / "store") == merged  # nothing to do
    assert run(audio, tmp_path / "store", (0, n)) == merged


def test_missing_parts_are_named(audio, whole, tmp_path):
    store = tmp_path / "store"
    with pytest.raises(UserError, match="no parts of a store"):
        merge(store)
    run(audio, store, (0, 4))
    run(audio, store, (2, 4))
    with pytest.raises(UserError, match=r"4 of 8 shards not written; .* again with --part 1/4, 3/4$"):
        merge(store)
    (store / "work" / "part-00002.jsonl").unlink()
    run(audio, store, (3, 4))
    with pytest.raises(UserError, match=r"3 of 8 shards .*--part 1/4, 2/4$"):
        merge(store)
    run(audio, store)  # without a part: all that is left
    assert contents(store) == whole


def test_a_shard_that_was_cut_before_the_merge_is_named(audio, whole, tmp_path):
    """As after a power failure of a node: merged, it would make a store that cannot be opened."""
    store = tmp_path / "store"
    run(audio, store, (0, 1))
    shard = store / "shards" / "part-00003.array_record"
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(
        UserError, match=r"part-00003.array_record: has \d+ bytes, but \d+ were written; remove it and run"
    ):
        merge(store)
    shard.unlink()
    with pytest.raises(UserError, match=r"1 of 8 shards not written; run the same prepare command again$"):
        merge(store)
    run(audio, store, (0, 1))
    merge(store)
    assert contents(store) == whole


def test_rejects_are_judged_over_all_parts(audio, tmp_path):
    for i in range(3):
        prepare([audio], tmp_path / "store", workers=1, part=(i, 3))
    with pytest.raises(UserError, match=r"1 of 30 recordings rejected \(first: .*tone011.wav"):
        merge(tmp_path / "store")
    assert merge(tmp_path / "store", max_reject_fraction=0.1)["rejected"] == 1


def test_parts_of_other_settings_are_refused(audio, tmp_path):
    run(audio, tmp_path / "store", (0, 2))
    with pytest.raises(UserError, match="another codec"):
        run(audio, tmp_path / "store", (1, 2), codec="pcm16")
    with pytest.raises(UserError, match="another shard_mb"):
        run(audio, tmp_path / "store", (1, 2), shard_mb=1)
    for part in ((2, 2), (-1, 2)):
        with pytest.raises(UsageError, match="0 <= i < n"):
            run(audio, tmp_path / "new", part)
    with pytest.raises(UsageError, match="shard_mb = 0"):
        run(audio, tmp_path / "new", shard_mb=0)


@pytest.mark.parametrize("changed", [False, True])
def test_of_two_parts_that_list_at_once_the_first_makes_the_plan(audio, tmp_path, monkeypatch, changed):
    """The other part finds the plan at its rename. It continues if its list is the same, and is refused otherwise."""
    corpus, store = tmp_path / "audio", tmp_path / "store"
    shutil.copytree(audio, corpus)
    rename, first = Path.rename, []

    def late(path, target):
        if target.name == "work" and not first:
            first.append(path)
            if changed:
                (corpus / "tone003.wav").rename(corpus / "tone003b.wav")
            run(corpus, store, (1, 2))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    if changed:
        with pytest.raises(UserError, match="other inputs"):
            run(corpus, store, (0, 2))
        run(corpus, store, (0, 2))
    else:
        run(corpus, store, (0, 2))
    assert first and not list(store.glob("work.*"))
    assert merge(store)["records"] == 29


def test_parts_leave_each_others_unfinished_files_alone(audio, tmp_path):
    """A starting part removes left-overs of its own chunks; other parts may be at work on theirs."""
    store = tmp_path / "store"
    run(audio, store, (0, 2))
    mine, other = (temporary_name(store / "shards" / f"part-0000{chunk}.array_record") for chunk in (1, 2))
    foreign = [store / folder / name for folder in ("shards", "work") for name in (".part-00001.x.tmp", ".part-y.tmp")]
    for path in (mine, other, *foreign):
        path.touch()
    run(audio, store, (1, 2))
    assert other.exists() and not mine.exists()
    merge(store)
    assert not other.exists() and all(path.exists() for path in foreign)


def test_killed_at_any_rename_of_a_part_or_the_merge(audio, whole, tmp_path):
    store, kills = tmp_path / "store", 0
    for call in (lambda: run(audio, store, (0, 2)), lambda: run(audio, store, (1, 2)), lambda: merge(store)):
        for _ in at_every_rename(call):
            kills += 1
            if not (store / "store.json").exists():
                with pytest.raises(UserError, match="not a complete store"):
                    Store(store)
    assert kills > 20 and contents(store) == whole


def test_killed_at_any_rename_from_the_beginning(audio, tmp_path, monkeypatch):
    """The same, but each kill starts from an empty folder, and the next run completes it."""
    monkeypatch.setattr("jepa_speech.store.chunks.CHUNK_RECORDS", 16)  # two shards, to spare time
    run(audio, tmp_path / "whole")
    for kills in at_every_rename(lambda: run(audio, tmp_path / "store")):  # noqa: B007
        run(audio, tmp_path / "store")
        assert contents(tmp_path / "store") == contents(tmp_path / "whole")
        shutil.rmtree(tmp_path / "store")
    assert kills > 30


RUN = """
import os, signal, sys, time
from jepa_speech.ingest import audio
from jepa_speech.store import chunks, finalize, prepare
chunks.CHUNK_RECORDS = 4
task, corpus, out, part = sys.argv[1:]
if task == "die":
    replace = chunks.Path.replace
    def dying(path, to):
        replace(path, to)
        if to.name == "part-00004.jsonl":
            os.kill(os.getpid(), 9)
    chunks.Path.replace = dying
if task == "merge":
    finalize.duplicates = lambda _: os.kill(os.getpid(), 9)
    prepare.merge(out)
i, n = map(int, part.split("/"))
prepare.prepare([corpus], out, workers=1, max_reject_fraction=0.1, part=(i, n))
"""


def test_four_processes_at_once_one_killed_and_the_merge_killed(audio, whole, tmp_path):
    (tmp_path / "run.py").write_text(RUN)
    store = tmp_path / "store"
    command = [sys.executable, str(tmp_path / "run.py")]
    tasks = [[*command, "die" if i == 0 else "run", str(audio), str(store), f"{i}/4"] for i in range(4)]
    processes = [subprocess.Popen(task) for task in tasks]
    assert [process.wait() for process in processes] == [-signal.SIGKILL, 0, 0, 0]
    (store / "work" / "part-00004.jsonl").unlink()  # as if killed a moment earlier
    with pytest.raises(UserError, match="--part 0/4"):
        merge(store)
    again = [*command, "run", *tasks[0][3:]]
    assert subprocess.run(again, check=False).returncode == 0
    killed = subprocess.run([*command, "merge", *tasks[0][3:]], check=False)
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(UserError, match="unfinished one"):
        Store(store)
    merge(store)
    assert contents(store) == whole
