"""Inputs in a bucket give the records of local ones, whatever the server does."""

import json
import time
from pathlib import Path

import pytest
import soundfile
from support.audio_files import tone
from support.bucket_servers import BUCKET, Relay, environment, put, put_as_named, upload
from support.input_writers import KINDS, as_folder, as_librispeech, as_nemo, as_parquet, as_tar, jsonl, lhotse_cut

import jepa_speech
from jepa_speech.cloud import objects
from jepa_speech.errors import UserError
from jepa_speech.ingest import in_bucket
from jepa_speech.ingest.manifest import entries
from jepa_speech.ingest.recording import recording

SETTINGS = {"codec": "pcm16", "shard_mb": 0.04, "workers": 1}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Rows of four synthetic recordings of two speakers."""
    folder, rows = tmp_path_factory.mktemp("clips"), []
    for i in range(4):
        name = f"{7 + i // 2}-1-{i:04d}"
        soundfile.write(folder / f"{name}.flac", wave := tone(0.3 + 0.02 * i, i), 16_000)
        about = {"text": f"word {i}", "speaker": f"{7 + i // 2}", "duration": len(wave) / 16_000}
        rows.append({"file": folder / f"{name}.flac", "name": name, **about})
    return rows


@pytest.fixture
def use(monkeypatch, tmp_path):
    def named(scheme: str, address: str, cache: str = "cache") -> None:
        for name, value in environment(scheme, address, tmp_path / cache).items():
            monkeypatch.setenv(name, value)

    return named


def records(source, **options):
    found = []
    for entry in entries([source], **options):
        row, record = recording(entry, "pcm16")
        found.append((row.get("record"), row.get("reason"), row.get("digest"), record))
    return found


@pytest.mark.parametrize("scheme", ["s3", "gs"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_input_gives_the_same_records(kind, scheme, servers, clips, use, tmp_path):
    use(scheme, servers[scheme])
    (local := tmp_path / "local").mkdir()
    source, name = kind(local, clips), f"inputs/{kind.__name__}"
    expected = records(source)
    for path in [path for path in local.rglob("*") if path.suffix in ("", ".scp", ".tsv") and path.is_file()]:
        path.write_text(path.read_text().replace(str(local), f"{scheme}://{BUCKET}/{name}"))  # absolute paths
    url = f"{upload(scheme, servers[scheme], local, name)}/{source.relative_to(local)}"
    expected = [(record and _renamed(record, local, url), *rest) for record, *rest in expected]
    assert records(url) == expected and all(record for *_, record in expected)
    assert all(entry.path.startswith(f"{scheme}://") for entry in entries([url]))
    audio = {path.suffix for path in (tmp_path / "cache" / "inputs").rglob("*") if _is_read(path)}
    assert not audio & {".flac", ".wav"}  # only listed


def _renamed(record: dict, local: Path, url: str) -> dict:
    folder = url.removesuffix(f"/{url.rpartition('/')[2]}") if Path(url).suffix else url.rpartition("/")[0]
    return record | {"source": record["source"].replace(str(local), folder)}


def _is_read(path: Path) -> bool:
    return path.is_file() and any(path.read_bytes())


def test_a_store_is_the_same_and_its_parts_are_made_with_any_cache(servers, clips, machine, tmp_path):
    source = as_librispeech(tmp_path, clips)
    machine("one")
    url = upload("s3", servers["s3"], source, "inputs/corpus")
    expected = jepa_speech.prepare(source, tmp_path / "store", **SETTINGS)
    out = f"s3://{BUCKET}/stores/of_inputs"
    jepa_speech.prepare(url, out, part=(0, 2), **SETTINGS)
    machine("two")
    jepa_speech.prepare(url, out, part=(1, 2), **SETTINGS)
    merged = jepa_speech.merge_parts(out)
    assert merged["fingerprint"] == expected["fingerprint"] and merged["records"] == 4
    assert jepa_speech.check_inputs(url, full=True)["good"] == 4


def test_what_cannot_be_read_is_named(servers, clips, use, tmp_path):
    use("s3", servers["s3"])
    url = upload("s3", servers["s3"], as_folder(tmp_path, clips), "inputs/named")
    put("s3", servers["s3"], "inputs/named/bad.wav", b"no audio")
    rows = [{"path": f"{url}/{name}"} for name in (f"{clips[0]['name']}.flac", "none.flac", "bad.wav")]
    rows += [{"path": f"s3://{BUCKET}/private/a.flac"}, {"path": f"{url}/../private/a.flac"}]
    manifest = jsonl(tmp_path / "m.jsonl", rows)
    found = jepa_speech.check_inputs(manifest, root=url)
    reasons = [(row["source"].rpartition("/")[2], row["reason"]) for row in found["rejects"]]
    assert reasons == [("none.flac", "missing"), ("bad.wav", "unreadable"), *[("a.flac", "outside_root")] * 2]
    assert found["rejects"][0]["detail"] == f"{url}/none.flac: no such object"
    assert jepa_speech.check_inputs(manifest)["reasons"] == {"outside_root": 5}
    put("s3", servers["s3"], "inputs/named/m.jsonl", manifest.read_bytes())  # its own folder is allowed
    assert jepa_speech.check_inputs(f"{url}/m.jsonl")["good"] == 1
    with pytest.raises(UserError, match=rf"^s3://{BUCKET}/inputs/none: no such folder or manifest"):
        jepa_speech.check_inputs(f"s3://{BUCKET}/inputs/none")
    with pytest.raises(UserError, match=rf"^{url}/bad.wav is a recording; name a folder"):
        jepa_speech.check_inputs(f"{url}/bad.wav")


def test_a_recipe_begins_in_a_root_in_a_bucket(servers, clips, use, tmp_path):
    use("s3", servers["s3"])
    url = upload("s3", servers["s3"], as_folder(tmp_path, clips), "inputs/recipe")
    row = {"key": "a", "wav": f"{clips[0]['name']}.flac", "txt": "a"}
    (entry,) = entries([jsonl(tmp_path / "data.list", [row])], root=url)
    place = f"{url}/{clips[0]['name']}.flac"
    assert (entry.reason, entry.path) == ("", place)
    cut = lhotse_cut(clips[0], place, 0.0, 0.3)
    cut["recording"]["sources"][0]["type"] = "url"
    (entry,) = entries([jsonl(tmp_path / "cuts.jsonl", [cut])], root=url)
    assert (entry.reason, entry.path) == ("", place)


def test_the_server_fails(servers, clips, use, tmp_path, monkeypatch, capfd):
    relay = Relay(servers["s3"])
    use("s3", relay.url)
    source = as_folder(tmp_path, clips)
    url, out = upload("s3", servers["s3"], source, "inputs/fails"), tmp_path / "store"
    relay.faults = lambda name, number, body: (
        (200, body[:50]) if name.endswith(".flac") and number == 1 else (200, body)
    )
    assert records(url) == records(source)  # broken responses are asked for again
    monkeypatch.setattr(objects, "ONE_REQUEST", 1.0)
    last = f"{clips[3]['name']}.flac"
    relay.faults = lambda name, number, body: (500, b"") if name.endswith(last) else (200, body)
    with pytest.raises(UserError, match=rf"^{url}/{last}: cannot be read \(status code: 500"):
        jepa_speech.prepare(url, out, **SETTINGS)
    relay.faults = lambda name, number, body: (200, body)
    assert jepa_speech.prepare(url, out, **SETTINGS)["records"] == 4  # the same command resumes
    relay.close()


def test_segments_of_a_file_are_one_download(servers, clips, use, tmp_path):
    relay = Relay(servers["s3"])
    use("s3", relay.url)
    source = as_nemo(tmp_path, clips)
    url = upload("s3", servers["s3"], tmp_path, "inputs/segments")
    assert records(f"{url}/{source.name}") == records(source)
    assert relay.got["inputs/segments/joined.wav"] == 1
    relay.close()


@pytest.mark.parametrize("most,at_once", [(1 << 20, 4), (1, 1)])
def test_recordings_are_fetched_while_others_are_decoded(most, at_once, servers, clips, use, tmp_path, monkeypatch):
    monkeypatch.setattr(in_bucket, "AHEAD", 4)
    monkeypatch.setattr(in_bucket, "AHEAD_BYTES", most)
    relay, running, seen = Relay(servers["s3"]), [], []

    def slow(name, number, body):
        if name.endswith(".flac"):
            running.append(name)
            seen.append(len(running))
            time.sleep(0.2)
            running.remove(name)
        return 200, body

    relay.faults = slow
    use("s3", relay.url)
    source = as_folder(tmp_path, clips)
    url = upload("s3", servers["s3"], source, f"inputs/ahead{at_once}")
    found = jepa_speech.prepare(url, tmp_path / "store", **SETTINGS | {"shard_mb": 1})
    assert found["fingerprint"] == jepa_speech.prepare(source, tmp_path / "local", **SETTINGS)["fingerprint"]
    assert max(seen) == at_once and {relay.got[name] for name in relay.got if name.endswith(".flac")} == {1}
    assert in_bucket._ahead is None
    relay.close()


def test_a_recording_that_was_replaced_is_rejected(servers, clips, use, tmp_path):
    use("s3", servers["s3"])
    url = upload("s3", servers["s3"], as_folder(tmp_path, clips), "inputs/replaced")
    listed = list(entries([url]))
    put("s3", servers["s3"], f"inputs/replaced/{clips[0]['name']}.flac", b"another one")
    row, record = recording(listed[0], "pcm16")
    assert row["reason"] == "changed" and record is None


@pytest.mark.parametrize("kind", [as_tar, as_parquet])
def test_archives_are_in_the_bounded_cache(kind, servers, clips, use, tmp_path, monkeypatch):
    use("s3", servers["s3"])
    (local := tmp_path / "local").mkdir()
    first = kind(local, clips)
    twice = [upload("s3", servers["s3"], local, f"in puts/{kind.__name__} {i}") for i in range(2)]
    monkeypatch.setenv("JEPA_SPEECH_CACHE_GB", str(1.5 * first.stat().st_size / 1e9))
    listed = list(entries([f"{url}/{first.name}" for url in twice]))
    assert len(listed) == 8 and all(recording(entry, "pcm16")[1] for entry in listed)
    assert {entry.path.partition(first.name)[0] for entry in listed} == {f"{url}/" for url in twice}
    assert len(list((tmp_path / "cache").rglob(f"shards/{first.name}"))) == 1


def test_a_folder_is_listed_anew(servers, clips, use, tmp_path):
    use("s3", servers["s3"])
    (tmp_path / "a").mkdir()
    url = upload("s3", servers["s3"], as_folder(tmp_path / "a", clips[:2]), "inputs/anew")
    put(
        "s3",
        servers["s3"],
        "inputs/anew/metadata.jsonl",
        json.dumps({"file_name": f"{clips[0]['name']}.flac"}).encode(),
    )
    assert len(records(url)) == 2
    put("s3", servers["s3"], f"inputs/anew/{clips[2]['name']}.flac", clips[2]["file"].read_bytes())
    bucket = objects.Objects(url)
    bucket.remove("metadata.jsonl")
    bucket.remove(f"{clips[0]['name']}.flac")
    assert [entry.source for entry in entries([url])] == [f"{row['name']}.flac" for row in clips[1:3]]


NAMES = ("a b.flac", "ä.flac", "100%.flac", "50%20.flac", "a#b.flac", "a?b.flac", "a@0123456789ab.flac", "x[1].flac")


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_any_names_and_the_objects_of_folders(scheme, servers, clips, use):
    """Consoles and gcsfuse write an empty object for each folder."""
    use(scheme, servers[scheme])
    data = clips[0]["file"].read_bytes()
    contents = {f"inputs/names/{name}": data for name in (*NAMES, "dir/c.flac")}
    for name, body in {**contents, "inputs/names/": b"", "inputs/names/dir/": b"", "inputs/names/none/": b""}.items():
        put_as_named(scheme, servers[scheme], name, body)
    url = f"{scheme}://{BUCKET}/inputs/names"
    found = list(entries([url]))
    assert {entry.path for entry in found} == {f"{url}/{name}" for name in (*NAMES, "dir/c.flac")}
    assert all(recording(entry, "pcm16")[1] for entry in found)
    put_as_named(scheme, servers[scheme], "inputs/odd//z.flac", data)
    with pytest.raises(UserError, match=r'cannot name the object "inputs/odd//z.flac" .*; rename or remove'):
        list(entries([f"{scheme}://{BUCKET}/inputs/odd"]))
