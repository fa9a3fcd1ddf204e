"""A service that speaks the part of the Cloud TPU API which launch/tpu_pod.sh needs, on 127.0.0.1, and keeps state.

gcloud's own programs call it (`environment`). Only their ssh and scp are stand-ins: worker I has the address 10.0.0.I
and the home folder HOMES/I.
"""

import json
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

# With $HOMES/silent, connections to a preempted slice break (255), and none is made. The first connection to a worker
# whose home has a folder `break` breaks, while its command runs on. As sshd does, it joins the words of a command.
SSH = """#!/bin/bash
until [[ $1 = *@10.0.0.* ]]; do shift; done
export WORKER=${1##*.} HOME=$HOMES/${1##*.}
shift
[ "$1" != -- ] || shift
cd "$HOME" || exit
gone() { [ -e "$HOMES/silent" ] && [ "$(cat "$SERVICE/nodes/p/state")" = PREEMPTED ]; }
! gone || exit 255
case $* in *" run "*)
    if rmdir break 2>/dev/null; then
        setsid bash -c "$*" &>/dev/null &
        until [ -e "$HOMES/up" ]; do sleep 0.1; done
        exit 255
    fi ;;
esac
bash -c "$*"
code=$?
! gone || exit 255
exit $code
"""
SCP = """#!/bin/bash
for target in "$@"; do source=$previous previous=$target; done
target=${target##*@10.0.0.}
cp "$source" "$HOMES/${target%%:*}/${target#*:}"
"""


class TpuService:
    """Runs inside a `with` block.

    A node or a queued resource is a folder of `folder`: nodes/NAME or queuedResources/NAME. Its file `state` holds the
    states to come. Each description shows the first, and drops it unless it is the last. `states` has those of new
    ones, by kind, and `created` the body of each POST.
    """

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.homes, self.workers = folder, folder / "homes", workers
        self.states = {
            "nodes": ["READY"],
            "queuedResources": ["WAITING_FOR_RESOURCES"] * 2 + ["PROVISIONING", "ACTIVE"],
        }
        self.created: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"service": self}))
        programs = folder / "programs"
        for worker in range(workers):
            (self.homes / str(worker)).mkdir(parents=True)
        programs.mkdir()
        for name, text in {"ssh": SSH, "scp": SCP}.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        (folder / "token").write_text("token")
        address = f"http://127.0.0.1:{self.server.server_port}/"
        self.environment = {
            "HOMES": str(self.homes),
            "SERVICE": str(folder),
            "HOME": str(folder),  # gcloud writes its ssh key there
            "CLOUDSDK_CONFIG": str(folder / "gcloud"),
            "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(folder / "token"),
            "CLOUDSDK_CORE_PROJECT": "x",
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_TPU": address,
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"{address}compute/v1/",
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
            "http_proxy": "http://127.0.0.1:9",  # nothing leaves this machine
            "https_proxy": "http://127.0.0.1:9",
            "no_proxy": "127.0.0.1",
        }

    def __enter__(self) -> "TpuService":
        Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def make(self, kind: str, name: str, body: dict[str, Any]) -> None:
        folder = self.folder / kind / name
        folder.mkdir(parents=True)
        (folder / "body.json").write_text(json.dumps(body))
        (folder / "state").write_text(" ".join(self.states[kind]))

    def exists(self, kind: str, name: str) -> bool:
        return (self.folder / kind / name / "state").exists()

    def describe(self, kind: str, name: str) -> dict[str, Any]:
        folder = self.folder / kind / name
        state, *rest = (folder / "state").read_text().split()
        (folder / "state").write_text(" ".join(rest or [state]))
        body = json.loads((folder / "body.json").read_text())
        body["name"] = f"projects/x/locations/z/{kind}/{name}"
        if kind == "nodes":
            addresses = [{"ipAddress": f"10.0.0.{worker}"} for worker in range(self.workers)]
            return body | {"state": state, "health": "HEALTHY", "networkEndpoints": addresses}
        for spec in body["tpu"]["nodeSpec"]:
            if state == "ACTIVE" and not self.exists("nodes", spec["nodeId"]):
                self.make("nodes", spec["nodeId"], spec["node"])
            if state in ("SUSPENDED", "FAILED"):
                self.remove("nodes", spec["nodeId"])
        error = {"failedData": {"error": {"code": 8, "message": "no capacity"}}} if state == "FAILED" else {}
        return body | {"state": {"state": state} | error}

    def remove(self, kind: str, name: str) -> None:
        folder = self.folder / kind / name
        for path in (*folder.glob("*"), *folder.parent.glob(name)):
            path.rmdir() if path.is_dir() else path.unlink()

    def update(self, name: str, body: dict[str, Any]) -> None:
        path = self.folder / "nodes" / name / "body.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | body))


class _Handler(BaseHTTPRequestHandler):
    service: TpuService

    def log_message(self, *_: object) -> None:
        pass

    def fail(self, code: int, status: str, message: str) -> None:
        self.answer({"error": {"code": code, "status": status, "message": message}}, code)

    def answer(self, what: dict[str, Any], code: int = 200) -> None:
        body = json.dumps(what).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> dict[str, Any]:
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")

    def asked(self) -> tuple[str, str, dict[str, list[str]]]:
        """The kind of thing, its name ("" for all of the kind) and the parameters."""
        url = urlsplit(self.path)
        kind, _, name = url.path.partition("/locations/z/")[2].partition("/")
        return kind, name, parse_qs(url.query)

    def operation(self, name: str) -> None:
        self.answer({"name": f"projects/x/locations/z/operations/{name}", "done": False})

    def missing(self) -> None:
        self.fail(404, "NOT_FOUND", f"Resource '{urlsplit(self.path).path}' was not found")

    def do_GET(self) -> None:
        kind, name, _ = self.asked()
        if "/projects/x" not in self.path:
            self.fail(403, "PERMISSION_DENIED", "not your project")
        elif "/compute/" in self.path:
            self.answer({"kind": "compute#project", "name": "x", "commonInstanceMetadata": {"items": []}})
        elif kind == "operations":
            result = {"@type": "type.googleapis.com/google.cloud.tpu.v2.Node", "name": "projects/x/locations/z/nodes/p"}
            self.answer({"name": f"projects/x/locations/z/operations/{name}", "done": True, "response": result})
        elif self.service.exists(kind, name):
            self.answer(self.service.describe(kind, name))
        else:
            self.missing()

    def do_POST(self) -> None:
        kind, name, parameters = self.asked()
        body = self.body()
        if name:
            self.missing()  # such as guest attributes, which gcloud can do without
            return
        name = parameters[f"{kind.removesuffix('s')}Id"][0]
        self.service.created[kind].append(body)
        self.service.make(kind, name, body)
        self.operation(f"create-{kind}-{len(self.service.created[kind])}")

    def do_PATCH(self) -> None:
        _, name, _ = self.asked()
        self.service.update(name, self.body())
        self.operation("update")

    def do_DELETE(self) -> None:
        kind, name, parameters = self.asked()
        if kind == "queuedResources" and parameters.get("force") != ["True"]:
            self.fail(400, "FAILED_PRECONDITION", "the queued resource has nodes")
            return
        if not self.service.exists(kind, name):
            self.missing()
            return
        if kind == "queuedResources":
            for spec in json.loads((self.service.folder / kind / name / "body.json").read_text())["tpu"]["nodeSpec"]:
                self.service.remove("nodes", spec["nodeId"])
        self.service.remove(kind, name)
        self.operation("delete")
