"""A run folder in a bucket: uploaded at each save, and enough to resume the run on another machine."""

from contextlib import nullcontext

import numpy as np
import obstore
import pytest
from support.bucket_servers import BUCKET, names
from training.toy import ToyObjective, toy_batches, toy_config, train

import jepa_speech
from jepa_speech.errors import Interrupted, UsageError, UserError
from jepa_speech.training.checkpoint import read_weights
from jepa_speech.training.run_in_bucket import RunInBucket, local_run


def written(folder, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_a_killed_run_resumes_from_the_bucket_alone(machine, bucket):
    config, name = toy_config(keep=1, checkpoint_every=4, steps=8), "runs/killed"
    machine("first")
    other = {"progress": False}
    run = RunInBucket(f"s3://{BUCKET}/{name}")

    def killed_at_step_8(may_fail):
        if (run.folder / "checkpoints" / "8").exists():
            raise KeyboardInterrupt
        run.uploaded(may_fail)

    with pytest.raises(KeyboardInterrupt):
        train(config, ToyObjective(), toy_batches(config), run.folder, upload=killed_at_step_8, **other)
    assert "checkpoints/4/checksums.json" in names(bucket, name)

    machine("second")
    resumed = RunInBucket(run.objects.url)
    resumed.fetch_run()
    done = train(config, ToyObjective(), toy_batches(config), resumed.folder, upload=resumed.uploaded, **other)
    assert done["step"] == 8 and resumed.folder != run.folder
    assert (resumed.folder / "metrics.jsonl").read_bytes() == (run.folder / "metrics.jsonl").read_bytes()
    for path, array in read_weights(run.folder)[1].items():
        np.testing.assert_array_equal(read_weights(resumed.folder)[1][path], array)
    assert {file.split("/")[1] for file in names(bucket, name) if file.startswith("checkpoints/")} == {"8"}


def test_only_whole_checkpoints_are_fetched_and_the_bucket_decides(machine, bucket):
    url = f"s3://{BUCKET}/runs/kept"
    machine("first")
    run = RunInBucket(url)
    files = {"config.json": "{}", "metrics.jsonl": "1", "checkpoints/1/d/a": "a", "checkpoints/1/checksums.json": "{}"}
    local = {".jepa-speech.lock": "", "aside/x": "", "checkpoints/2.orbax-checkpoint-tmp/d": ""}
    written(run.folder, files | local)
    run.upload()
    assert names(bucket, "runs/kept") == files.keys()
    bucket.put("runs/kept/checkpoints/3/d/a", b"its checksums are missing")
    bucket.put("runs/kept/probe/mine.json", b"of another command")

    machine("second")
    other = RunInBucket(url)
    written(other.folder, {"checkpoints/2/checksums.json": "never uploaded", "metrics.jsonl": "12"})
    other.fetch_run()
    found = {path.relative_to(other.folder).as_posix() for path in other.folder.rglob("*") if path.is_file()}
    assert found == files.keys() and (other.folder / "metrics.jsonl").read_text() == "1"

    (other.folder / "checkpoints" / "1").rename(other.folder / "checkpoints" / "4")
    other.upload()
    there = {name for name in names(bucket, "runs/kept") if "/" in name}
    assert {name.split("/")[1] for name in there} == {"4", "mine.json"}


def test_all_processes_begin_where_process_0_does(machine, bucket):
    """Without a run in the bucket, nobody resumes from what only its own machine has."""
    machine("first")
    url, whole = f"s3://{BUCKET}/runs/late", {"config.json": "{}", "checkpoints/2/checksums.json": "{}"}
    for process in (0, 1):
        written(RunInBucket(url, process).folder, whole | {"checkpoints/2/d": "never uploaded", "events-1.jsonl": "1"})
    peer = RunInBucket(url, 1)
    peer.fetch_run()
    assert peer.files() == {"config.json", "events-1.jsonl"}
    peer.upload()
    assert names(bucket, "runs/late") == {"events-1.jsonl"}  # which alone is no run
    with local_run(url, None) as (folder, _):
        assert names(bucket, "runs/late") == whole.keys() | {"checkpoints/2/d", "events-1.jsonl"}
    written(folder, {"events-1.jsonl": "12"})
    RunInBucket(url).upload()  # it is not process 0's
    assert bytes(bucket.get("runs/late/events-1.jsonl").bytes()) == b"1"
    peer.fetch_run()
    assert peer.files() >= whole.keys()


def test_a_checkpoint_is_whole_only_with_its_checksums(machine, bucket, monkeypatch):
    machine("first")
    run = RunInBucket(f"s3://{BUCKET}/runs/torn")
    written(
        run.folder, {"config.json": "{}", **{f"checkpoints/1/{name}": name for name in ("a", "checksums.json", "z")}}
    )
    upload, asked = type(run.objects).upload, []

    def fails(self, name, path):
        asked.append(name)
        if name.endswith("/z"):
            raise UserError("no network")
        upload(self, name, path)

    monkeypatch.setattr(type(run.objects), "upload", fails)
    run.uploaded(may_fail=True)  # says so, and goes on
    assert names(bucket, "runs/torn") == {"config.json", "checkpoints/1/a"}
    with pytest.raises(UserError, match="no network"):
        run.uploaded(may_fail=False)
    monkeypatch.setattr(type(run.objects), "upload", upload)
    run.upload()
    assert "checkpoints/1/checksums.json" in names(bucket, "runs/torn")
    assert asked == ["config.json", "checkpoints/1/a", "checkpoints/1/z", "checkpoints/1/z"]


def test_what_is_written_after_the_last_save_is_uploaded_unless_the_run_failed(machine, bucket):
    machine("first")
    url = f"s3://{BUCKET}/runs/stopped"
    for error, text in ((Interrupted("saved"), "1"), (UserError("diverged"), "1"), (None, "3")):
        with pytest.raises(type(error)) if error else nullcontext(), local_run(url, None) as (folder, _):
            written(folder, {"config.json": "{}", "events.jsonl": "1" if type(error) is Interrupted else "3"})
            if error:
                raise error
        assert bytes(bucket.get("runs/stopped/events.jsonl").bytes()).decode() == text


def test_what_is_refused(machine, local, bucket):
    machine("first")
    obstore.put(bucket, "runs/store/store.json", b"{}")
    with pytest.raises(UserError, match=r"^s3://.*/runs/store holds store\.json, so it is not a run folder"):
        jepa_speech.train("tiny:pure_jepa", f"s3://{BUCKET}/runs/store", overrides={"data.store": local.path})
    assert names(bucket, "runs/store") == {"store.json"}
    with pytest.raises(UsageError, match=rf"^from_step: not for a run in a bucket; copy s3://{BUCKET}/x"):
        jepa_speech.train("tiny:pure_jepa", f"s3://{BUCKET}/x", overrides={"data.store": local.path}, from_step=1)
