"""``python -m data_prep prompts``: from a folder and from a real server, killed transfers, wrong content, changed files."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from data_prep import download, prompts
from data_prep.__main__ import main
from data_prep.upstream import UPSTREAMS
from eclipse_pl.prompts import load
from eclipse_pl.prompts.compbench import FILES, LINES, OPTIONAL_FILES
from tests.helpers.compbench_folder import write, write_compbench
from tests.helpers.real_data import RealData
from tests.helpers.rule_parser import RuleParser
from tests.test_compbench_prompts import PARSED
from tests.test_geneval_prompts import ROWS, write_geneval

load_prompts = partial(load.load_prompts, parser=RuleParser())
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server:
    """Serves a folder. ``broken[name]`` answers in another way, once a request; ``asked`` is what was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.broken: dict[str, Callable[[BaseHTTPRequestHandler, bytes], None]] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rpartition("/")[2]
                server.asked.append(name)
                if not (server.folder / name).is_file():
                    self.send_error(404)
                elif name in server.broken:
                    server.broken.pop(name)(self, (server.folder / name).read_bytes())
                else:
                    answer(self, (server.folder / name).read_bytes())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def answer(request: BaseHTTPRequestHandler, content: bytes, length: int | None = None) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(content) if length is None else length))
    request.end_headers()
    request.wfile.write(content)


def cut_off(request: BaseHTTPRequestHandler, content: bytes) -> None:
    """Half of the bytes that were announced, then the connection is closed."""
    answer(request, content[: len(content) // 2], length=len(content))


def hang_up(request: BaseHTTPRequestHandler, content: bytes) -> None:
    """Closed before an answer."""


def fail(request: BaseHTTPRequestHandler, content: bytes) -> None:
    request.send_error(503)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Upstream as it would be with twenty prompts a category, which is quicker."""
    lines = {name: {"_val.txt": 20}.get(name[name.index("_val") :], 0) for name in LINES if "_val" in name}
    lines |= {
        "complex_val_spatial.txt": 4,
        "complex_val_action.txt": 14,
        "complex_val_spatialaction.txt": 2,
        "new_objects.txt": 101,
    }
    lines |= {name: 10 for name in OPTIONAL_FILES}
    monkeypatch.setitem(UPSTREAMS, "compbench", replace(UPSTREAMS["compbench"], lines=lines, sha256={}))
    return write_compbench(tmp_path / "upstream", lines=20, parts=(4, 14, 2), seen=10)


@pytest.fixture
def server(small: Path) -> Iterator[Server]:
    running = Server(small)
    yield running
    running.close()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


RULES = ["--parser", "tests.helpers.rule_parser.RuleParser"]


def run(out: Path, *arguments: str, suite: str = "compbench") -> int:
    return main(["prompts", "--suite", suite, "--out", str(out), *RULES, *arguments])


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a refused command says."""
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_from_a_server(server: Server, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(out, "--source", f"{server.url}/{{revision}}/data", "--revision", COMMIT) == 0
    told = capsys.readouterr().out
    assert "160 prompts (color 20, shape 20, texture 20, spatial 20, 3d_spatial 20," in told and "parsed by rules-1" in told
    record = json.loads((out / "prompts.json").read_text())
    assert record["suite"] == "compbench" and record["revision"] == COMMIT and record["parser"] == "rules-1"
    assert record["source"] == f"{server.url}/{COMMIT}/data" and record["licence"].startswith("MIT, Copyright (c) 2023 HKU")
    assert record["files"].keys() == {*FILES, *OPTIONAL_FILES}
    for name, entry in record["files"].items():
        assert entry["source"] == f"{server.url}/{COMMIT}/data/{name}"
        assert entry["sha256"] == sha256((out / name).read_bytes()).hexdigest()
        assert (out / name).read_bytes() == (server.folder / name).read_bytes()
    found = load_prompts(out, "compbench")
    assert found.sha256[:12] in told and {prompt.subset for prompt in found} >= {"seen", "unseen", "action"}
    assert not (out / prompts.STAGING).exists() and not list(out.glob("*.partial"))


def test_a_commit_is_not_downloaded_again(server: Server, out: Path) -> None:
    arguments = ["--source", f"{server.url}/{{revision}}/data", "--revision", COMMIT]
    assert run(out, *arguments) == 0
    before = files(out)
    server.asked.clear()
    assert run(out, *arguments) == 0
    assert not server.asked and files(out) == before
    assert run(out, "--source", f"{server.url}/main") == 0  # no commit in it: it may have changed
    assert len(server.asked) == len(FILES) + len(OPTIONAL_FILES)


@pytest.mark.parametrize("broken", [cut_off, hang_up, fail])
def test_an_interrupted_transfer_continues_after_the_last_whole_file(
    server: Server, out: Path, capsys: pytest.CaptureFixture[str], broken: Callable[[BaseHTTPRequestHandler, bytes], None]
) -> None:
    arguments = ["--source", f"{server.url}/{COMMIT}"]
    server.broken["spatial_val.txt"] = broken
    assert run(out, *arguments) == 2
    assert "spatial_val.txt" in error_of(capsys)
    assert [path.name for path in out.iterdir()] == [prompts.STAGING]
    whole = ["color_val.txt", "prompts.json", "shape_val.txt", "texture_val.txt"]
    assert sorted(path.name for path in (out / prompts.STAGING).iterdir()) == whole
    with pytest.raises(ValueError, match="There is no"):
        load_prompts(out, "compbench")
    server.asked.clear()
    assert run(out, *arguments) == 0
    assert server.asked[0] == "spatial_val.txt" and len(load_prompts(out, "compbench")) == 160


def test_a_stop_by_the_user_keeps_whole_files(server: Server, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(place: str) -> bytes:
        if place.endswith("texture_val.txt"):
            raise KeyboardInterrupt
        return download.fetch(place)

    with monkeypatch.context() as patched:
        patched.setattr(prompts, "fetch", stopped)
        assert run(out, "--source", f"{server.url}/{COMMIT}") == 130
    server.asked.clear()
    assert run(out, "--source", f"{server.url}/{COMMIT}") == 0
    assert "color_val.txt" not in server.asked and "texture_val.txt" in server.asked


def test_what_another_run_left_behind_is_not_taken(server: Server, small: Path, tmp_path: Path, out: Path) -> None:
    server.broken["complex_val.txt"] = cut_off
    assert run(out, "--source", f"{server.url}/{COMMIT}") == 2
    assert (out / prompts.STAGING / "color_val.txt").is_file()
    (tmp_path / "mine.txt").write_text("a boat\n")
    assert run(out, suite=str(tmp_path / "mine.txt")) == 0
    assert sorted(path.name for path in out.iterdir()) == ["mine.txt", "mine.txt.parsed.json", "prompts.json"]


def test_a_missing_file(server: Server, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("color_val_seen.txt", "color_val_unseen.txt"):
        (server.folder / name).unlink()
    assert run(out, "--source", server.url) == 0
    assert "Done without color_val_seen.txt, color_val_unseen.txt" in capsys.readouterr().out
    (server.folder / "complex_val.txt").unlink()
    assert run(out, "--source", server.url) == 2
    assert f"{server.url}/complex_val.txt answers 404 Not Found" in error_of(capsys)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"<!DOCTYPE html>\n<p>Not here", "is a web page, not a file of prompts"),
        (b"a red kettle and a blue canoe\n", "has 1 lines, color_val.txt of upstream has 20. Check --source"),
        (b"a red kettle \xff", "is not UTF-8 text"),
    ],
)
def test_wrong_content(server: Server, out: Path, capsys: pytest.CaptureFixture[str], content: bytes, why: str) -> None:
    (server.folder / "color_val.txt").write_bytes(content)
    assert run(out, "--source", server.url) == 2
    assert why in error_of(capsys)
    assert not out.exists()


def test_a_prompt_that_cannot_be_read(server: Server, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (server.folder / "spatial_val.txt").read_text().splitlines()
    write(server.folder / "spatial_val.txt", [*lines[:-1], "a kettle beyond a canoe"])
    assert run(out, "--source", server.url) == 2
    assert "spatial_val.txt, line 20, 'a kettle beyond a canoe': it names no relation" in error_of(capsys)
    assert not (out / "prompts.json").exists()


def test_content_of_the_tested_commit_is_held_against_its_hash(
    server: Server, out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = {name: sha256((server.folder / name).read_bytes()).hexdigest() for name in (*FILES, *OPTIONAL_FILES)}
    upstream = replace(UPSTREAMS["compbench"], source=server.url + "/{revision}", revision=COMMIT, sha256=hashes)
    monkeypatch.setitem(UPSTREAMS, "compbench", upstream)
    assert run(out) == 0
    monkeypatch.setitem(UPSTREAMS, "compbench", replace(upstream, sha256={**hashes, "shape_val.txt": "0" * 64}))
    assert run(out.with_name("other")) == 2
    assert "shape_val.txt has sha256" in error_of(capsys)


def test_a_file_that_changed_at_its_source(server: Server, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(out, "--source", server.url) == 0
    before = files(out)
    lines = (server.folder / "shape_val.txt").read_text().splitlines()
    write(server.folder / "shape_val.txt", ["a tiny kettle and a huge canoe", *lines[1:]])
    assert run(out, "--source", server.url) == 2
    error = error_of(capsys)
    assert "shape_val.txt has changed since the last run" in error and "--accept-changed takes the new one" in error
    assert {name: content for name, content in files(out).items() if prompts.STAGING not in name} == before
    assert run(out, "--source", server.url, "--accept-changed") == 0
    assert load_prompts(out, "compbench", ["shape"]).prompts[0].text == "a tiny kettle and a huge canoe"
    assert run(out, "--source", server.url) == 0


def test_a_local_file_that_was_changed(server: Server, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(out, "--source", server.url) == 0
    (out / "color_val.txt").write_text("a kettle of mine\n")
    assert run(out, "--source", server.url) == 2
    assert "it was changed on this machine, or comes from somewhere else" in error_of(capsys)
    assert (out / "color_val.txt").read_text() == "a kettle of mine\n"
    assert run(out, "--source", server.url, "--accept-changed") == 0
    assert len(load_prompts(out, "compbench", ["color"])) == 20


def test_other_files_are_not_overwritten(small: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out.mkdir()
    (out / "color_val.txt").write_text("mine\n")
    assert run(out, "--source", str(small)) == 2
    assert "color_val.txt differs from" in error_of(capsys) and (out / "color_val.txt").read_text() == "mine\n"


def test_parts_that_upstream_no_longer_has_go(small: Path, out: Path) -> None:
    assert run(out, "--source", str(small)) == 0
    assert load_prompts(out, "compbench", ["color"]).prompts[0].subset == "seen"
    for name in OPTIONAL_FILES:
        (small / name).unlink()
    assert run(out, "--source", str(small)) == 0
    assert load_prompts(out, "compbench", ["color"]).prompts[0].subset == ""


def test_a_set_of_another_size(small: Path, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_compbench(tmp_path / "other", lines=5, parts=(1, 1, 1))
    assert run(out, "--source", str(other)) == 2
    assert "has 5 lines" in error_of(capsys)
    assert run(out, "--source", str(other), "--accept-changed") == 0
    assert len(load_prompts(out, "compbench")) == 38


def test_geneval(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_geneval(tmp_path, ROWS)
    assert run(out, "--source", str(tmp_path), suite="geneval") == 2
    assert "has 6 lines, evaluation_metadata.jsonl of upstream has 553" in error_of(capsys)
    assert run(out, "--source", str(tmp_path), "--accept-changed", suite="geneval") == 0
    assert len(load_prompts(out, "geneval")) == 6
    assert run(out, "--source", str(tmp_path), suite="compbench") == 2
    assert "holds prompts of the suite 'geneval'. Choose another folder for 'compbench'" in error_of(capsys)


def test_a_file_by_url_and_by_path(server: Server, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (server.folder / "list.csv").write_text("Prompts,Category\na cup,Cups\nsoftly,Cups\n")
    assert run(out, suite=f"{server.url}/list.csv?raw=true") == 2  # our server looks for a file of that name
    assert "404" in error_of(capsys)
    assert run(out, suite=f"{server.url}/list.csv") == 0
    captured = capsys.readouterr()
    assert "2 prompts (Cups 2)" in captured.out and "warning: rules-1 finds no noun phrase in 'softly'" in captured.err
    assert [prompt.id for prompt in load_prompts(out, "file")] == ["Cups/0000", "Cups/0001"]
    (tmp_path / "mine.txt").write_text("a boat\n")
    assert run(tmp_path / "mine", suite=str(tmp_path / "mine.txt")) == 0
    assert load_prompts(tmp_path / "mine", "file") == load_prompts(tmp_path / "mine" / "mine.txt", "file")


@pytest.mark.parametrize(
    ("suite", "arguments", "why"),
    [
        (
            "compbnch",
            [],
            "--suite compbnch is none of compbench, geneval, dpg, dsg, geneval2, genai_bench and no file or URL of prompts",
        ),
        ("ftp://a.org/b.txt", [], "is neither an http(s) URL nor a path"),
        ("none.txt", [], "There is no file none.txt"),
        ("none.txt", ["--source", "x"], "is itself the file to read: leave out --source"),
        ("compbench", ["--source", "nowhere"], "There is no folder nowhere"),
        ("compbench", ["--source", "http://127.0.0.1:1"], "http://127.0.0.1:1/color_val.txt cannot be read"),
        ("compbench", ["--source", "http://127.0.0.1:1", "--revision", "main"], "has no {revision} in it"),
    ],
)
def test_bad_requests(out: Path, capsys: pytest.CaptureFixture[str], suite: str, arguments: list[str], why: str) -> None:
    assert run(out, *arguments, suite=suite) == 2
    assert why in error_of(capsys)
    assert not out.exists()


def test_an_endless_file(
    server: Server, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(download, "LARGEST", 100)
    assert run(out, "--source", server.url) == 2
    assert "color_val.txt is larger than" in error_of(capsys)


@pytest.mark.long
def test_the_real_files(
    out: Path, real_data: RealData, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Held against the hashes of the tested commit, as a download from upstream is."""
    monkeypatch.setitem(UPSTREAMS, "compbench", replace(UPSTREAMS["compbench"], source=str(real_data("compbench"))))
    assert main(["prompts", "--suite", "compbench", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "2,400 prompts (color 300," in told and f"sha256 {PARSED[1]}\n" in told
