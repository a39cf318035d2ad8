"""A Hugging Face hub on loopback: repositories, commits, large files, and a line that can drop."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors",)


@dataclass
class FakeHub:
    """What the hub holds, and what was sent to it."""

    url: str = ""
    token: str = "hf_test"
    user: str = "tester"
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """{USER/NAME: {path: content}}"""
    objects: dict[str, bytes] = field(default_factory=dict)
    """Large files by their sha256."""
    uploads: int = 0
    """Large files that arrived."""
    commits: int = 0
    private: dict[str, bool] = field(default_factory=dict)
    drops: int = 0
    """The number of uploads that still fail."""

    def tags(self, repository: str) -> list[str]:
        text = self.repositories[repository].get("README.md", b"").decode()
        return [line.removeprefix("- ").strip() for line in text.partition("\n---\n")[0].splitlines() if line.startswith("- ")]


def handler_of(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def missing(self, code: str) -> None:
            self.answer({"error": code}, 404, {"X-Error-Code": code})

        def allowed(self) -> bool:
            if self.headers.get("Authorization") == f"Bearer {hub.token}":
                return True
            self.body()
            self.answer({"error": "Invalid username or password."}, 401)
            return False

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            words = path.strip("/").split("/")
            if path == "/api/whoami-v2":
                if self.allowed():
                    self.answer({"name": hub.user, "type": "user", "orgs": [{"name": "lab"}], "auth": {}})
            elif words[:2] == ["api", "models"]:
                self.about("/".join(words[2:4]), words[4:])
            elif "resolve" in words:
                self.resolve("/".join(words[:2]), "/".join(words[4:]))
            else:
                self.missing("EntryNotFound")

        do_HEAD = do_GET

        def about(self, repository: str, rest: list[str]) -> None:
            files = hub.repositories.get(repository)
            if files is None:
                return self.missing("RepoNotFound")
            if rest[:1] == ["tree"]:
                return self.answer([entry(name, content) for name, content in files.items()])
            self.answer(
                {
                    "_id": "1",
                    "id": repository,
                    "modelId": repository,
                    "sha": sha_of(files),
                    "private": hub.private[repository],
                    "tags": hub.tags(repository),
                    "siblings": [{"rfilename": name} for name in files],
                }
            )

        def resolve(self, repository: str, name: str) -> None:
            files = hub.repositories.get(repository, {})
            if name not in files:
                return self.missing("EntryNotFound")
            self.answer(
                files[name],
                headers={"ETag": f'"{hashlib.sha256(files[name]).hexdigest()}"', "X-Repo-Commit": sha_of(files)},
            )

        def do_POST(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if not self.allowed():
                return
            body = self.body()
            if path == "/api/validate-yaml":
                return self.answer({"errors": [], "warnings": []})
            if path == "/api/repos/create":
                wanted = json.loads(body)
                name = f"{wanted.get('organization') or hub.user}/{wanted['name']}"
                hub.repositories[name] = {}
                hub.private[name] = bool(wanted.get("private")) or wanted.get("visibility") == "private"
                return self.answer({"url": f"{hub.url}/{name}", "id": name})
            if path.endswith("/info/lfs/objects/batch"):
                return self.answer({"transfer": "basic", "objects": [large(one) for one in json.loads(body)["objects"]]})
            words = path.strip("/").split("/")
            repository = "/".join(words[2:4])
            if words[4] == "preupload":
                kinds = {one["path"]: one["path"].endswith(LARGE) for one in json.loads(body)["files"]}
                return self.answer(
                    {
                        "files": [
                            {"path": name, "uploadMode": "lfs" if kind else "regular", "shouldIgnore": False}
                            for name, kind in kinds.items()
                        ]
                    }
                )
            if words[4] == "commit":
                files = hub.repositories[repository]
                for line in body.decode().splitlines():
                    one = json.loads(line)
                    if one["key"] == "file":
                        files[one["value"]["path"]] = base64.b64decode(one["value"]["content"])
                    elif one["key"] == "deletedFile":
                        del files[one["value"]["path"]]
                    elif one["key"] == "lfsFile":
                        files[one["value"]["path"]] = hub.objects[one["value"]["oid"]]
                hub.commits += 1
                oid = sha_of(files)
                return self.answer({"commitUrl": f"{hub.url}/{repository}/commit/{oid}", "commitOid": oid, "success": True})
            self.missing("EntryNotFound")

        def do_PUT(self) -> None:
            data = self.body()
            if hub.drops:
                hub.drops -= 1
                return self.answer({"error": "the line dropped"}, 400)  # 500 would be tried again for half a minute
            hub.objects[urlsplit(self.path).path.rpartition("/")[2]] = data
            hub.uploads += 1
            self.answer({})

    def large(one: dict[str, Any]) -> dict[str, Any]:
        upload = {"upload": {"href": f"{hub.url}/upload/{one['oid']}"}}
        return {**one, **({} if one["oid"] in hub.objects else {"actions": upload})}

    return Handler


def entry(name: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


def sha_of(files: dict[str, bytes]) -> str:
    return hashlib.sha1(b"".join(name.encode() + content for name, content in sorted(files.items()))).hexdigest()


@contextmanager
def serve_hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
