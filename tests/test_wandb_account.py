"""Weights & Biases without an account, without a network, and with a server that says no."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from eclipse_pl.training.wandb_account import answers, has_wandb_account, wandb_mode
from tests.helpers.ranks import run_command
from tests.helpers.runs import write_experiment


class Refusal(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(401)

    do_POST = do_GET

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    """The address of a server that knows nobody."""
    with HTTPServer(("127.0.0.1", 0), Refusal) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path) -> pytest.MonkeyPatch:
    """A machine without an account; its server is not there."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    return monkeypatch


def test_the_mode_follows_from_settings_account_and_network(environment, refusing, capfd) -> None:
    assert wandb_mode("auto") == "offline"
    assert wandb_mode("offline") == "offline"
    environment.setenv("WANDB_API_KEY", "x" * 40)
    assert wandb_mode("auto") == "offline"
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:9 does not answer\. Set run\.wandb to offline"):
        wandb_mode("online")
    environment.setenv("WANDB_BASE_URL", refusing)
    assert wandb_mode("auto") == "online"
    assert wandb_mode("online") == "online"
    assert wandb_mode("offline") == "offline"
    for mode in ("disabled", "offline", "online"):
        environment.setenv("WANDB_MODE", mode)
        assert wandb_mode("auto") == mode


def test_a_server_that_takes_the_call_and_says_nothing_costs_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        assert not answers(f"http://127.0.0.1:{silent.getsockname()[1]}", patience=0.5)
        assert time.monotonic() - start < 20


def test_a_name_server_that_does_not_answer_costs_seconds(monkeypatch) -> None:
    asked = threading.Event()

    def resolve(*args: object, **kwargs: object) -> None:
        asked.wait(60)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    start = time.monotonic()
    assert not answers("http://nobody.invalid", patience=0.5)
    assert time.monotonic() - start < 20
    asked.set()


def test_no_address_at_all() -> None:
    assert not answers("nonsense")


@pytest.mark.processes
@pytest.mark.parametrize("server", ["none", pytest.param("refuses", marks=pytest.mark.slow)])
def test_a_key_without_a_network_and_a_wrong_key_leave_the_run_offline(tmp_path, environment, refusing, server) -> None:
    environment.setenv("WANDB_API_KEY", "a" * 40)
    if server == "refuses":
        environment.setenv("WANDB_BASE_URL", refusing)
    experiment = write_experiment(tmp_path, run__wandb="auto", trainer__max_steps=2, trainer__val_check_interval=2)
    environment.chdir(tmp_path)
    # a process of its own: wandb leaves sockets open that pytest takes for mistakes of ours
    done = run_command(tmp_path / "said", ["fit", "--config", str(experiment)])
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("logging offline; `wandb sync` uploads a run later.") == 1, done.stdout
    assert "Traceback" not in done.stdout
    (log,) = (tmp_path / "runs/tiny/version_0/wandb").glob("offline-run-*/*.wandb")
    assert b"val/cosine" in log.read_bytes()


def test_an_account_in_netrc_is_found(environment, tmp_path) -> None:
    environment.delenv("WANDB_BASE_URL")
    assert not has_wandb_account()
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine api.wandb.ai login user password secret\n")
    netrc.chmod(0o600)
    assert has_wandb_account()
