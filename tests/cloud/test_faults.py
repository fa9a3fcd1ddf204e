"""What is wrong with a bucket, its objects or the credentials is said in one line, and a killed upload goes on."""

import json
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.audio_files import write_tones
from support.bucket_servers import BUCKET, environment, names, upload

import jepa_speech
from jepa_speech import cli
from jepa_speech.errors import UserError

SECRET = "hunter2hunter2"


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults") / "audio"
    write_tones(folder, 6, seconds=0.3)
    return folder


def first_contacts(audio, url: str, local: str):
    """Calls that each ask a bucket for something first. local: a store."""
    return {
        "inspect": lambda: jepa_speech.inspect(f"{url}/store"),
        "prepare to": lambda: jepa_speech.prepare(audio, f"{url}/store", workers=1),
        "prepare from": lambda: jepa_speech.check_inputs(f"{url}/audio"),
        "rows": lambda: jepa_speech.check_inputs(f"{url}/m.jsonl"),
        "model": lambda: jepa_speech.load_pretrained(f"{url}/run"),
        "embed": lambda: jepa_speech.embed("none", audio, f"{url}/a.npz"),
        "fit": lambda: jepa_speech.fit_gmm(local, f"{url}/a.npz", components=2),
        "label": lambda: jepa_speech.label(local, f"{url}/a.npz"),
        "train": lambda: jepa_speech.train("tiny:pure_jepa", f"{url}/run", overrides={"data.store": local}),
    }


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_missing_bucket_is_named(scheme, servers, audio, local, monkeypatch, tmp_path):
    # moto answers to gs://, too, as Google does: with NoSuchBucket. fake-gcs-server says "no bucket named" (500).
    for name, value in environment(scheme, servers["s3"], tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    for name, call in first_contacts(audio, f"{scheme}://nobucket/x", str(local.path)).items():
        with pytest.raises(UserError) as error:
            call()
        assert str(error.value) == f"{scheme}://nobucket: no such bucket; check its name", name


class Refuses(BaseHTTPRequestHandler):
    """Refuses every request, and sends back all that it was sent."""

    status = 403

    def do_GET(self):
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b"<Error><Code>SignatureDoesNotMatch</Code>%s %s</Error>" % (str(self.headers).encode(), sent)
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def refusing():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield "http://{}:{}".format(*server.server_address)
    server.shutdown()
    server.server_close()


KEYS = {
    "quoted": json.dumps(SECRET),
    "text": SECRET,
    "account": json.dumps({"type": "service_account", "private_key": SECRET, "private_key_id": "", "client_email": ""}),
}


@pytest.mark.parametrize("scheme,key", [("s3", ""), ("gs", ""), *(("gs", name) for name in KEYS)])
def test_wrong_credentials_are_one_line_without_the_secret(
    scheme, key, refusing, audio, local, monkeypatch, tmp_path, capfd
):
    for name, value in environment(scheme, refusing, tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    if scheme == "s3":
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    elif not key:
        monkeypatch.setenv("GOOGLE_BEARER_TOKEN", SECRET)
    else:
        monkeypatch.delenv("GOOGLE_BEARER_TOKEN")
        (tmp_path / "key.json").write_text(KEYS[key])
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    for name, call in first_contacts(audio, f"{scheme}://bucket/x", str(local.path)).items():
        before = time.monotonic()
        with pytest.raises(UserError) as error:
            call()
        said = str(error.value)
        assert "the credentials of this machine" in said and SECRET not in said, (name, said)
        assert "AWS_ACCESS_KEY_ID" in said or "GOOGLE_APPLICATION_CREDENTIALS" in said
        assert time.monotonic() - before < 20
    assert SECRET not in "".join(capfd.readouterr())


def test_a_damaged_anchor_is_named_by_its_url(machine, servers, bucket, local):
    machine("first")
    bucket.put("faults/a.npz", b"no anchor")
    url, store = f"s3://{BUCKET}/faults/a.npz", upload("s3", servers["s3"], local.path, "faults/store")
    changes = {"data.store": store, "anchor.path": url}
    for call in (
        lambda: jepa_speech.label(store, url),
        lambda: jepa_speech.train("tiny", f"s3://{BUCKET}/faults/run", overrides=changes),
    ):
        with pytest.raises(UserError, match=rf"^{url}: "):
            call()


def test_parts_of_labels_are_refused_before_a_cluster_starts(capsys):
    line = ["label", "--store", "s3://bucket/x", "--anchor", "a.npz", "--cluster", "local:2"]
    assert cli.main(line) == 2
    said = capsys.readouterr().err
    assert said.startswith("jepa-speech label: --cluster: the labels of s3://bucket/x are made by one process;")


KILLED = """
import os, signal, sys
import jepa_speech
from jepa_speech.cloud.objects import Objects
upload = Objects.upload
def killed(self, name, path):
    if name == "records.jsonl":
        os.kill(os.getpid(), signal.SIGKILL)
    upload(self, name, path)
Objects.upload = killed
jepa_speech.prepare(sys.argv[1], sys.argv[2], workers=1, shard_mb=0.02)
"""


def test_an_upload_that_was_killed_goes_on(machine, audio, bucket, tmp_path, monkeypatch):
    machine("first")
    url = f"s3://{BUCKET}/faults/killed"
    run = subprocess.run([sys.executable, "-c", KILLED, str(audio), url], check=False)
    assert run.returncode == -signal.SIGKILL
    there = names(bucket, "faults/killed")
    assert "index/crc.npy" in there and not {"records.jsonl", "store.json"} & there
    with pytest.raises(UserError, match=r"not a complete store"):
        jepa_speech.inspect(url)
    before = {name: bucket.head(f"faults/killed/{name}")["last_modified"] for name in there if "shards/" in name}
    found = jepa_speech.prepare(audio, url, workers=1, shard_mb=0.02)
    assert found["records"] == 6 and not jepa_speech.inspect(url, verify="decode")["damage"]
    for name, written in before.items():
        assert bucket.head(f"faults/killed/{name}")["last_modified"] == written
