"""The demo's requests and answers, without a page: batches, limits, and the sentences of its command."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from eclipse_pl.__main__ import main as command
from eclipse_pl.demo.answer import Answer, Latency
from eclipse_pl.demo.batcher import Batcher
from eclipse_pl.demo.command import load_model, names_of, with_all_priors
from eclipse_pl.demo.model import DemoModel, between_of
from eclipse_pl.demo.request import MOST_CHARACTERS, Request
from eclipse_pl.demo.results import results
from eclipse_pl.embedding import ClipSpace
from eclipse_pl.priors.eclipse import EclipsePrior
from eclipse_pl.world.decoder import WorldDecoder
from tests.helpers.demo_model import free_port, small_demo
from tests.helpers.saved_runs import make_run
from tests.helpers.shard_sets import make_space

pytestmark = [pytest.mark.long, pytest.mark.processes]

PROMPT, SECOND = "a red circle above a blue star", "two green squares"
GREY_LEVELS = 2
"""An image of another batch may differ by so much of 255, because sums differ in their last digits."""
REQUESTS = [
    Request(PROMPT, "one_pass"),
    Request(PROMPT, "flow"),
    Request(PROMPT, "flow", seed=7),
    Request(PROMPT, "flow", steps=1),
    Request(PROMPT, "flow", guidance=1.0),
    Request(PROMPT, "flow", negative_prompt="a cyan heart"),
    Request(PROMPT, "one_pass", second_prompt=SECOND, mix=0.4),
    Request(SECOND, "one_pass"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def model(folder: Path) -> DemoModel:
    return small_demo(folder)


@pytest.fixture(scope="module")
def together(model: DemoModel) -> list[Answer]:
    return model.generate(REQUESTS)


def pixels(answer: Answer) -> np.ndarray:
    return np.asarray(answer.image.convert("RGB")).astype(int)


@pytest.mark.parametrize("number", range(len(REQUESTS)))
def test_an_image_depends_on_its_own_request_alone(model: DemoModel, together: list[Answer], number: int) -> None:
    (alone,) = model.generate([REQUESTS[number]])
    torch.testing.assert_close(alone.image_embed, together[number].image_embed, atol=1e-4, rtol=1e-4)
    assert abs(pixels(alone) - pixels(together[number])).max() <= GREY_LEVELS
    assert alone.request is REQUESTS[number]


def test_every_setting_changes_the_image(together: list[Answer]) -> None:
    for first in range(len(REQUESTS)):
        for second in range(first):
            assert abs(pixels(together[first]) - pixels(together[second])).max() > GREY_LEVELS, (first, second)


def test_the_seed_is_the_priors_too(together: list[Answer]) -> None:
    assert not torch.allclose(together[1].image_embed, together[2].image_embed)


def test_both_ends_of_the_slider_are_the_prompts(model: DemoModel) -> None:
    ends = [Request(PROMPT, "one_pass", second_prompt=SECOND, mix=mix) for mix in (0.0, 1.0)]
    first, last, one, other = model.generate([*ends, Request(PROMPT, "one_pass"), Request(SECOND, "one_pass")])
    assert torch.equal(first.image_embed, one.image_embed)
    torch.testing.assert_close(last.image_embed, other.image_embed, atol=1e-5, rtol=1e-4)
    middle = between_of(one.image_embed, other.image_embed, 0.5)
    cosines = [torch.cosine_similarity(middle, end.image_embed, dim=0) for end in (one, other)]
    torch.testing.assert_close(*cosines, atol=1e-4, rtol=0)
    torch.testing.assert_close(between_of(middle, middle, 0.3), middle)


def test_an_answer_says_what_is_known(model: DemoModel, together: list[Answer]) -> None:
    answer = together[0]
    assert answer.latency.images == len(REQUESTS)
    assert min(answer.latency.encoder, answer.latency.prior, answer.latency.decoder, answer.latency.scorers) >= 0
    assert 0 <= answer.scores["oracle"].value <= 1
    cosines = [near.cosine for near in answer.neighbours]
    assert len(cosines) == 6 and cosines == sorted(cosines, reverse=True)
    assert answer.facts["nearest"][0]["caption"] == answer.neighbours[0].caption
    (odd,) = model.generate([Request("the weather of <b>Tuesday</b> " * 20, "one_pass")])
    assert "32 tokens" in odd.notes[0] and odd.facts["scores"] == {"oracle": None} and odd.facts["not_scored"]["oracle"]
    shown = results([odd], {"one_pass": "a prior"})
    assert "<b>" not in shown and "&lt;b&gt;" in shown and odd.notes[0] in shown


def test_texts_that_are_kept_are_few(model: DemoModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eclipse_pl.demo.model.KEPT_TEXTS", 3)
    model._texts.clear()
    for count in range(5):
        model._encode(f"{count} stars")
    assert list(model._texts) == ["2 stars", "3 stars", "4 stars"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": "  "}, "The prompt is empty"),
        ({"prompt": "word " * 10_000}, f"has 50000 characters; at most {MOST_CHARACTERS}"),
        ({"prompt": "a\0b"}, "NUL"),
        ({"negative_prompt": "n" * 2000}, "The negative prompt has 2000 characters"),
        ({"mix": 0.5}, "the second one is empty"),
        ({"mix": 2.0, "second_prompt": "b"}, "The mix is 2"),
        ({"seed": -1}, "The seed is -1"),
        ({"prior": "another"}, "There is no prior 'another'; there is one_pass and flow"),
        ({"prior": "one_pass", "steps": 3}, "has neither steps nor guidance"),
        ({"steps": 0}, "The number of steps is 0"),
        ({"guidance": float("nan")}, "The guidance is nan"),
    ],
)
def test_what_a_request_may_not_be(model: DemoModel, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        model.generate([replace(Request("a", "flow"), **changes)])


def test_a_negative_prompt_needs_a_decoder_that_reads_it(model: DemoModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.decoder, "guidance", 1.0)
    with pytest.raises(ValueError, match="takes no negative prompt"):
        model.require(Request("a", "flow", negative_prompt="b"))


class SlowModel(DemoModel):
    """Records its batches, and holds the first one until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.first, self.go = threading.Event(), threading.Event()

    def require(self, request: Request) -> None:
        request.require_valid()

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        self.batches.append([request.prompt for request in requests])
        if not self.first.is_set():
            self.first.set()
            assert self.go.wait(30)
        if any(request.prompt == "bad" for request in requests):
            raise RuntimeError("this one fails")
        latency = Latency(0.0, 0.0, 0.0, 0.0, len(requests))
        return [Answer(one, Image.new("RGB", (1, 1)), torch.zeros(2), latency, {}, [], []) for one in requests]


def test_those_who_wait_are_the_next_batch_and_one_that_fails_costs_the_others_nothing() -> None:
    model = SlowModel()
    batcher = Batcher(model, 4)
    got: dict[str, Any] = {}

    def ask(*prompts: str) -> None:
        try:
            answers = batcher.ask([Request(prompt, "p") for prompt in prompts])
            got[prompts[0]] = [answer.request.prompt for answer in answers]
        except Exception as error:
            got[prompts[0]] = error

    threads = [threading.Thread(target=ask, args=("first",), daemon=True)]
    threads[0].start()
    assert model.first.wait(30)
    for count, prompts in enumerate([("a", "b"), ("bad",), ("c",), ("d",), ("",)], 1):
        threads.append(threading.Thread(target=ask, args=prompts, daemon=True))
        threads[-1].start()
        while len(batcher._waiting) < min(count, 4):
            assert threads[-1].is_alive()
            time.sleep(0.001)
    model.go.set()
    for thread in threads:
        thread.join(30)
    assert model.batches[:2] == [["first"], ["a", "b", "bad", "c"]]
    assert (got["first"], got["a"], got["c"], got["d"]) == (["first"], ["a", "b"], ["c"], ["d"])
    assert str(got["bad"]) == "this one fails" and "is empty" in str(got[""])


def test_a_demo_that_ends_answers_nobody_after_the_batch_that_is_made() -> None:
    """Python worked off all that waited after Ctrl+C, for minutes with a slow decoder. Who waits hears of it."""
    model = SlowModel()
    batcher = Batcher(model, 1)
    with ThreadPoolExecutor(3) as threads:
        asked = []
        for prompt in ("first", "a", "b"):
            asked.append(threads.submit(batcher.ask, [Request(prompt, "p")]))
            assert model.first.wait(30)
        while len(batcher._waiting) < 2:
            time.sleep(0.001)
        batcher.close()
        for one in asked[1:]:
            with pytest.raises(ValueError, match=r"The demo has ended\."):
                one.result(30)
        with pytest.raises(ValueError, match=r"The demo has ended\."):
            batcher.ask([Request("late", "p")])
        model.go.set()
        assert [answer.request.prompt for answer in asked[0].result(30)] == ["first"]
    batcher._worker.shutdown(wait=True)  # as Python does at its end
    assert model.batches == [["first"]]


@pytest.mark.parametrize("names", [["a"], ["a", "a"], ["a", "b", "b"], ["a", "b", "c"]], ids=str)
def test_names_that_are_not_one_for_each_prior_are_refused_before_any_is_loaded(names: list[str]) -> None:
    said = rf"--names {', '.join(names)} must be one name for each of 2 priors, none of them twice"
    with pytest.raises(ValueError, match=said):
        load_model(["no/such/run", "no/such/other"], names=names)


def test_priors_on_the_command_line_keep_their_names() -> None:
    odd = "runs/seed_everything=0,data=world,prior=flow"
    words = with_all_priors(["--port", "1", "--prior", odd, f"--prior={odd}2"])
    assert words == [f'--prior=["{odd}", "{odd}2"]', "--port", "1"]
    assert names_of([odd, odd.replace("flow", "mlp")]) == ["flow", "mlp"]
    assert names_of(["runs/quickstart/version_0"]) == ["quickstart/version_0"]
    assert names_of(["a/x", "b/x"]) == ["x (1)", "x (2)"]


def test_mistakes_of_the_command(
    model: DemoModel, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = sorted(str(path) for path in folder.glob("seed*"))
    port = str(free_port())
    karlo = '{"class_path": "eclipse_pl.world.decoder.WorldDecoder", "init_args": {"device": "cpu"}}'
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for words, said in (
            (["--prior", str(tmp_path)], "config.json"),
            (["--prior", runs[0], "--port", str(taken.getsockname()[1])], "is in use. Name another one with --port"),
            (["--prior", runs[0], "--port", "0"], "it must be from 1 to 65535"),
            (["--prior", runs[0], "--host", "no host"], "is no address"),
            (["--prior", runs[0], "--batch", "0"], "--batch is 0; it must be 1 or more"),
            (["--prior", runs[0], "--images", str(tmp_path / "*.tar")], "Give the source that the shards were made of"),
            ([*(word for run in [*runs, runs[0]] for word in ("--prior", run))], "3 priors were given"),
            ([], "required: prior"),
        ):
            words = words if "--port" in words else [*words, "--port", port]
            try:
                status = command(["demo", *words, f"--decoder={karlo}"])
            except SystemExit as stop:
                status = stop.code
            error = capsys.readouterr().err
            assert status == 2 and said in error and "Traceback" not in error, (words, error)
    monkeypatch.setattr("eclipse_pl.demo.server.find_spec", lambda name: None)
    assert command(["demo", "--prior", runs[0]]) == 2
    assert "pip install eclipse_pl[demo]" in capsys.readouterr().err


def test_a_prior_of_another_space_needs_its_own_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = make_space()
    other = str(make_run(tmp_path / "other", EclipsePrior, space, num_layers=1, num_attention_heads=2, attention_head_dim=8))
    world = '{"class_path": "eclipse_pl.world.decoder.WorldDecoder", "init_args": {"device": "cpu"}}'
    for words, said in (([f"--decoder={world}"], "the decoder"), ([], "No decoder")):
        assert command(["demo", "--prior", other, "--port", str(free_port()), *words]) == 2
        error = capsys.readouterr().err
        assert said in error and space.name in error and "Traceback" not in error, error
    with pytest.raises(ValueError, match=space.name):
        load_model([other], decoder=SpaceOfAll())


class SpaceOfAll(WorldDecoder):
    """A decoder that reads every space: the encoder is what cannot be had."""

    def __init__(self) -> None:
        super().__init__(device="cpu")

    def require_space(self, space: ClipSpace, whose: str) -> None:
        pass
