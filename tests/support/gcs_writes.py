"""A relay through which obstore can write to fake-gcs-server.

obstore writes by Google's XML interface. fake-gcs-server answers that interface only where objects are read, listed or
removed: it refuses PUT and POST with "invalid uploadType". The relay makes the same request of Google's JSON interface.
"""

import json
import threading
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.etree import ElementTree

PASSED_ON = ("ETag", "Last-Modified", "Content-Type", "Content-Range", "X-Goog-Generation")
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class WritableGCS:
    """A relay in front of the fake-gcs-server at the address `server`. Attribute `url`: the address of the relay."""

    def __init__(self, server: str) -> None:
        # The parts of an upload, by its name and their number. The object appears when the upload is complete.
        uploads: defaultdict[str, dict[str, bytes]] = defaultdict(dict)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16  # headers and body in one packet, else each request takes 40 ms

            def do_GET(self) -> None:
                self._answer(*self._asked(self.path))

            do_HEAD = do_GET

            def do_PUT(self) -> None:
                query, body = self._query(), self._body()
                if "uploadId" in query:
                    uploads[query["uploadId"]][query["partNumber"]] = body
                    self._answer(200, {"ETag": query["partNumber"]})
                else:
                    status, headers, answer = self._insert(body)
                    if status == 200:
                        written = json.loads(answer)
                        headers, answer = {"ETag": written["etag"], "X-Goog-Generation": written["generation"]}, b""
                    self._answer(status, headers, answer)

            def do_POST(self) -> None:
                query, body = self._query(), self._body()
                if "uploads" in query:
                    self._answer_xml("InitiateMultipartUploadResult", UploadId=uuid.uuid4().hex)
                elif "uploadId" in query:
                    parts = uploads.pop(query["uploadId"])
                    wanted = [number.text or "" for number in ElementTree.fromstring(body).iter("PartNumber")]
                    status, headers, answer = self._insert(b"".join(parts[number] for number in wanted))
                    if status == 200:
                        self._answer_xml("CompleteMultipartUploadResult", ETag=json.loads(answer)["etag"])
                    else:
                        self._answer(status, headers, answer)
                else:  # a request of the JSON interface
                    self._answer(*self._asked(self.path, body))

            def do_DELETE(self) -> None:
                if "uploadId" in (query := self._query()):
                    uploads.pop(query["uploadId"], None)
                    self._answer(204, {})
                else:
                    self._answer(*self._asked(self.path))

            def _insert(self, body: bytes) -> tuple[int, Any, bytes]:
                """Writes an object; returns the answer in JSON."""
                bucket, _, name = urllib.parse.unquote(self.path.partition("?")[0]).lstrip("/").partition("/")
                # Two parts, though the name fits into the query: otherwise fake-gcs-server ignores ifGenerationMatch.
                query, boundary = {"uploadType": "multipart"}, uuid.uuid4().hex
                if generation := self.headers.get("x-goog-if-generation-match"):
                    query["ifGenerationMatch"] = generation
                parts = [("application/json", json.dumps({"name": name}).encode()), ("application/octet-stream", body)]
                data = b"".join(
                    f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode() + part + b"\r\n" for kind, part in parts
                )
                del self.headers["Content-Type"]
                self.headers["Content-Type"] = f"multipart/related; boundary={boundary}"
                path = f"/upload/storage/v1/b/{bucket}/o?{urllib.parse.urlencode(query)}"
                return self._asked(path, data + f"--{boundary}--\r\n".encode(), "POST")

            def _asked(self, path: str, body: bytes | None = None, method: str = "") -> tuple[int, Any, bytes]:
                """Returns status, headers and body of the server's answer to a request with the client's headers."""
                headers = {name: self.headers[name] for name in ("Content-Type", "Range") if name in self.headers}
                request = urllib.request.Request(f"{server}{path}", body, headers, method=method or self.command)
                try:
                    with DIRECT.open(request, timeout=60) as response:
                        return response.status, response.headers, response.read()
                except urllib.error.HTTPError as error:
                    return error.code, error.headers, error.read()

            def _query(self) -> dict[str, str]:
                return dict(urllib.parse.parse_qsl(self.path.partition("?")[2], keep_blank_values=True))

            def _body(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def _answer_xml(self, kind: str, **values: str) -> None:
                root = ElementTree.Element(kind)
                for name, value in {"Bucket": "", "Key": "", **values}.items():
                    ElementTree.SubElement(root, name).text = value
                self._answer(200, {"Content-Type": "application/xml"}, ElementTree.tostring(root))

            def _answer(self, status: int, headers: Any, body: bytes = b"") -> None:
                self.send_response(status)
                for name in PASSED_ON:
                    if name in headers:
                        self.send_header(name, headers[name])
                # The answer to HEAD has the length of an object, and no body.
                length = headers.get("Content-Length") if self.command == "HEAD" else None
                self.send_header("Content-Length", length or str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = "http://{}:{}".format(*self._server.server_address)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
