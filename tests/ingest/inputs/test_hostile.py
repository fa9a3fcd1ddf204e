"""Inputs that mean harm, or look as if: nothing is run, nothing outside is read, nothing grows without bound."""

import gzip
import io
import json
import os
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from support.audio_files import write_tones
from support.input_writers import jsonl

from jepa_speech.errors import UserError
from jepa_speech.ingest.inputs import lines
from jepa_speech.ingest.manifest import entries
from jepa_speech.store.checking import check
from jepa_speech.store.prepare import prepare


@pytest.fixture
def corpus(tmp_path):
    """corpus/ with audio/, and beside it outside/, to which nothing may lead."""
    write_tones(tmp_path / "corpus" / "audio", 2)
    write_tones(tmp_path / "outside", 2, seed=7)
    return tmp_path / "corpus"


def reasons(*inputs, root=None) -> list[str]:
    return [entry.reason for entry in entries(inputs, root)]


def test_a_command_is_named_and_never_run(corpus):
    made = corpus / "made"
    touch = f"touch {made}"
    (corpus / "wav.scp").write_text(
        f"a audio/tone000.wav\nb {touch} |\nc |{touch}\nd cat audio/tone000.wav | sox - - |\ne audio/x.ark:1234\nf -\n"
    )
    found = list(entries([corpus]))
    assert [(entry.line, entry.reason) for entry in found] == [(1, "")] + [(i, "refused") for i in range(2, 7)]
    assert "commands are never run; if it only decodes one file, write that file's path" in found[1].detail
    source = {"sources": [{"type": "command", "channels": [0], "source": touch}], "duration": 1.0}
    url = {"sources": [{"type": "url", "channels": [0], "source": "http://localhost/x.wav"}], "duration": 1.0}
    cut = {"start": 0, "duration": 1.0, "channel": 0}
    manifest = jsonl(corpus / "cuts.jsonl", [cut | {"recording": source}, cut | {"recording": url}])
    assert reasons(manifest) == ["refused"] * 2
    result = prepare([corpus, manifest], corpus / "store", workers=1, max_reject_fraction=1.0)
    assert (result["records"], result["rejected"]) == (1, 7) and not made.exists()


OUTSIDE = ["../outside/tone000.wav", "{outside}/tone000.wav", "audio/../../outside/tone000.wav", "away/tone000.wav"]


@pytest.mark.parametrize("path", [*OUTSIDE, "audio/away.wav"])
def test_no_manifest_leads_out_of_its_folder(path, corpus):
    outside = corpus.parent / "outside"
    (corpus / "away").symlink_to(outside, target_is_directory=True)
    (corpus / "audio" / "away.wav").symlink_to(outside / "tone000.wav")
    path = path.format(outside=outside)
    cut = {"start": 0, "duration": 0.2, "recording": {"sources": [{"type": "file", "source": str(corpus / path)}]}}
    (corpus / "kaldi").mkdir()
    (corpus / "kaldi" / "wav.scp").write_text(f"a {corpus / path}\n")
    (corpus / "m.tsv").write_text(f"{corpus}\n{path}\t3200\n")
    jsonl(corpus / "m.jsonl", [{"audio_path": path}, {"audio_filepath": path, "offset": 0.0, "duration": 0.2}, cut])
    inputs = [corpus / "kaldi", corpus / "m.tsv", corpus / "m.jsonl"]
    assert reasons(*inputs) == ["outside_root"] * 5
    assert reasons(*inputs, root=corpus.parent) == [""] * 5
    assert "--root" in check(inputs)["first_bad"]


def test_a_name_that_begins_alike_is_still_outside(corpus):
    (corpus.parent / "corpus2").mkdir()
    (corpus / "audio" / "tone000.wav").rename(corpus.parent / "corpus2" / "x.wav")
    assert reasons(jsonl(corpus / "m.jsonl", [{"path": "../corpus2/x.wav"}])) == ["outside_root"]


def test_links_in_a_folder(corpus):
    outside = corpus.parent / "outside"
    (corpus / "loop").symlink_to(corpus, target_is_directory=True)
    (corpus / "audio" / "self.wav").symlink_to("self.wav")
    (corpus / "audio" / "away.wav").symlink_to(outside / "tone000.wav")
    (corpus / "away").symlink_to(outside, target_is_directory=True)
    found = {entry.source: entry.reason for entry in entries([corpus])}
    assert found == {
        "away": "outside_root",
        "audio/away.wav": "outside_root",
        "audio/self.wav": "unreadable",
        "audio/tone000.wav": "",
        "audio/tone001.wav": "",
    }
    assert set(reasons(corpus, root=corpus.parent)) == {"", "unreadable"}
    (corpus.parent / "named").symlink_to(corpus / "audio", target_is_directory=True)
    assert reasons(corpus.parent / "named").count("") == 2  # the input itself may be a link


def tar_of(path: Path, *members: tuple[str, bytes | None, dict]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data, more in members:
            member = tarfile.TarInfo(name)
            for key, value in ({"size": len(data or b"")} | more).items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(data or b""))
    return path


def test_members_of_a_tar_that_are_no_plain_files(corpus):
    wav = (corpus / "audio" / "tone000.wav").read_bytes()
    target = str(corpus / "audio" / "tone000.wav")
    archive = tar_of(
        corpus / "x.tar",
        ("good.wav", wav, {}),
        ("../up.wav", wav, {}),
        ("/abs.wav", wav, {}),
        ("a/../../up.wav", wav, {}),
        ("link.wav", None, {"type": tarfile.SYMTYPE, "linkname": target}),
        ("hard.wav", None, {"type": tarfile.LNKTYPE, "linkname": target}),
        ("device.wav", None, {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5}),
        ("fifo.wav", None, {"type": tarfile.FIFOTYPE}),
        ("folder.wav", None, {"type": tarfile.DIRTYPE}),
        ("._good.wav", b"?", {}),
        ("json.wav", wav, {}),
        ("json.json", b"[" * 100_000, {}),
    )
    found = {entry.source: entry.reason for entry in entries([archive])}
    names = ["../up.wav", "/abs.wav", "a/../../up.wav"]
    assert found == {"good.wav": "", "json.wav": "bad_json"} | dict.fromkeys(names, "outside_root") | dict.fromkeys(
        ["link.wav", "hard.wav", "device.wav", "fifo.wav"], "refused"
    )
    prepare([archive], corpus / "store", workers=1, max_reject_fraction=1.0)
    assert not (corpus.parent / "up.wav").exists()


def test_a_tar_that_breaks_off_or_is_damaged(corpus):
    wav = (corpus / "audio" / "tone000.wav").read_bytes()
    whole = tar_of(corpus / "x.tar", ("a.wav", wav, {}), ("b.wav", wav, {})).read_bytes()
    second = 512 + -(-len(wav) // 512) * 512  # where the second member's header begins

    def found(data: bytes) -> list[str]:
        (corpus / "y.tar").write_bytes(data)
        return reasons(corpus / "y.tar")

    assert found(whole) == ["", ""]
    assert found(whole[: second + 900]) == ["", "truncated"]  # within the second recording
    assert found(whole[: second + 100]) == ["", "truncated"]  # within its header
    assert found(whole[:second]) == ["", "truncated"]  # before it
    damaged = bytearray(whole)
    damaged[second + 130] ^= 1
    assert found(bytes(damaged)) == ["", "truncated"]


@pytest.mark.parametrize("claim", [{"GNU.sparse.size": "many"}, {"size": "9" * 30}, {"GNU.sparse.map": "0,x"}])
def test_a_header_of_a_tar_that_makes_no_sense(claim, corpus):
    """The members before it are stored."""
    wav = (corpus / "audio" / "tone000.wav").read_bytes()
    archive = tar_of(corpus / "x.tar", ("a.wav", wav, {}), ("b.wav", wav, {"pax_headers": claim}), ("c.wav", wav, {}))
    found = [(entry.source, entry.reason) for entry in entries([archive])]
    assert found[0] == ("a.wav", "") and found[1][1] == "truncated" and len(found) == 2


def test_a_tar_that_breaks_off_within_a_sidecar(corpus):
    wav = (corpus / "audio" / "tone000.wav").read_bytes()
    archive = tar_of(corpus / "x.tar", ("a.wav", wav, {}), ("b.json", b" " * 5000, {}), ("c.wav", wav, {}))
    data = archive.read_bytes()
    archive.write_bytes(data[: data.index(b"b.json") + 2000])
    assert reasons(archive) == ["", "truncated"]


def test_a_tar_whose_header_claims_gigabytes(corpus):
    archive = corpus / "x.tar"
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 4 << 30
    archive.write_bytes(header.tobuf(tarfile.GNU_FORMAT))
    os.truncate(archive, 5 << 30)  # all holes: takes no room
    with pytest.raises(UserError, match="a header of 4294967296 bytes"):
        list(entries([archive]))


def peak_bytes(work) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_packed_manifest_that_expands_absurdly(corpus, monkeypatch):
    monkeypatch.setattr(lines, "EXPANSION", (1 << 13, 20))
    row = json.dumps({"audio_path": "audio/tone000.wav"}).encode() + b"\n"
    for name, data, message in [
        ("lines.jsonl.gz", row * 2000, "refused as a bomb"),
        ("line.jsonl.gz", bytes(20 << 20), "a line of over 16 MB"),
        ("blank.jsonl.gz", b"\n" * (1 << 17), "refused as a bomb"),
    ]:
        path = corpus / name
        path.write_bytes(gzip.compress(data))

        def refused(path=path, message=message):
            with pytest.raises(UserError, match=message):
                for _ in entries([path]):
                    pass

        assert peak_bytes(refused) < 36 << 20
    path.write_bytes(gzip.compress(row * 100)[:-20])
    with pytest.raises(UserError, match="its gzip is damaged"):
        list(entries([path]))


def test_files_that_are_no_manifest_by_themselves(corpus):
    (corpus / "wav.scp").write_text("a audio/tone000.wav\n")
    with pytest.raises(UserError, match="name the directory"):
        next(entries([corpus / "wav.scp"]))
    (corpus / "m.tsv").write_text(f"{corpus}\naudio/tone000.wav\naudio/tone001.wav\tmany\na.wav\t{'9' * 5000}\n")
    assert reasons(corpus / "m.tsv") == ["", "bad_duration", "bad_duration"]
