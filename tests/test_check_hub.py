"""`make check-hub`: which repositories of the hub are named here, and what it says of those that are gone."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import eclipse_pl.decoders
from eclipse_pl.model_folder import HUB_ID, mirror_of
from tests.helpers.hub_ids import named_here, yaml_trees
from tests.helpers.make import dry_run

ROOT = Path(__file__).parent.parent
GONE, GATED = "kakaobrain/karlo-v1-alpha", "kandinsky-community/kandinsky-2-2-prior"
ADAPTER_FILES = {
    "models/ip-adapter_sd15.safetensors",
    "models/ip-adapter_sd15_vit-G.safetensors",
    "sdxl_models/ip-adapter_sdxl.safetensors",
    "sdxl_models/ip-adapter_sdxl_vit-h.safetensors",
}


def test_every_repository_that_is_a_default_or_in_a_part_is_asked_for() -> None:
    names = {one.name for one in named_here()}
    values = [tree.get(key) for tree in yaml_trees(ROOT) for key in ("model", "adapter", "lora", "weights", "prior")]
    for kind in map(eclipse_pl.decoders.__dict__.get, eclipse_pl.decoders.__all__):
        assert kind is not None
        values += [parameter.default for parameter in inspect.signature(kind).parameters.values()]
    ids = {value for value in values if isinstance(value, str) and HUB_ID.fullmatch(value) and "ViT-" not in value}
    ids = {value for value in ids if value.split("/")[0] not in ("runs", "parts", "data", "models", "sdxl_models")}
    assert ids and ids <= names, f"tests/helpers/hub_ids.py: add the owners of {sorted(ids - names)}"
    assert not [name for name in names if mirror_of(name)]
    (adapter,) = [one for one in named_here() if one.name == "h94/IP-Adapter"]
    assert adapter.files == ADAPTER_FILES
    assert any(one.is_dataset for one in named_here())


class Hub(BaseHTTPRequestHandler):
    """A hub that has every repository but `GONE`, and asks for the terms of `GATED`."""

    lacking = ""
    """A file that it does not have."""
    asked: list[str]

    def do_HEAD(self) -> None:
        self.respond(body=False)

    def do_GET(self) -> None:
        self.respond(body=True)

    def respond(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        name = "/".join(path.removeprefix("/api").removeprefix("/models").removeprefix("/datasets").split("/")[1:3])
        if name == GONE:
            return self.refuse("RepoNotFound", 404)
        if name == GATED:
            return self.refuse("GatedRepo", 403)
        files = ["config.json", "ip_adapter.safetensors", *ADAPTER_FILES - {self.lacking}]
        facts = {"id": name, "sha": "0" * 40, "siblings": [{"rfilename": file} for file in files]}
        content = json.dumps(facts if path.startswith("/api/") else {}).encode()
        self.send_response(200)
        for key, value in {"ETag": '"1"', "X-Repo-Commit": "0" * 40, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)
        return None

    def refuse(self, code: str, status: int) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setattr(Hub, "asked", [], raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def check(endpoint: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "tests.helpers.hub_ids"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.processes
def test_it_names_what_is_gone_and_loads_configurations_only(
    hub: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "lacking", "sdxl_models/ip-adapter_sdxl.safetensors")
    done = check(f"http://127.0.0.1:{hub.server_port}")
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    (karlo,) = [line for line in lines if line.startswith(GONE)]
    assert karlo.startswith(f"{GONE} is gone, or its owner has made it private: ")
    assert "experiments/parts/decoder/karlo.yaml" in karlo and "eclipse_pl/decoders/unclip.py" in karlo
    assert f"{GATED} is there" in lines and "kandinsky-community/kandinsky-2-2-decoder is there" in lines
    assert [line for line in lines if line.startswith("h94/IP-Adapter lacks sdxl_models/ip-adapter_sdxl.safetensors: ")]
    assert lines[-1].endswith("repositories are named here, 2 of them cannot be used.")
    assert [path for path in Hub.asked if path.endswith("config.json")]
    assert not [path for path in Hub.asked if path.endswith(".safetensors")]


@pytest.mark.processes
def test_a_hub_that_cannot_be_reached_says_nothing_of_its_repositories(hub: ThreadingHTTPServer) -> None:
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    hub.server_close()  # the port is known, and nobody answers there
    done = check(endpoint)
    assert done.returncode == 2
    assert "could not be asked for" in done.stderr and "needs a network" in done.stderr
    assert "Traceback" not in done.stderr and "is gone" not in done.stdout


@pytest.mark.processes
def test_make_calls_it() -> None:
    assert "-m tests.helpers.hub_ids" in dry_run("check-hub")
