"""The demo in a real browser and by gradio's client: one server, on loopback alone."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from eclipse_pl.demo.batcher import Batcher
from eclipse_pl.demo.model import DemoModel
from eclipse_pl.demo.request import Request
from eclipse_pl.demo.server import start
from tests.helpers.browser import browser, contrast, find_browser
from tests.helpers.demo_model import free_port, small_demo
from tests.test_readme import ROOT, blocks

pytestmark = [
    pytest.mark.long,
    pytest.mark.processes,
    # gradio never closes the event loops that it makes for its locks and threads
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

DESKTOP, PHONE = {"width": 1100, "height": 900}, {"width": 390, "height": 844}
GREY_LEVELS = 2
"""As in tests/test_demo.py."""
WAIT = 30_000
"""Milliseconds that a busy machine may take for an image."""


@dataclass
class Served:
    model: DemoModel
    address: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    model = small_demo(tmp_path_factory.mktemp("demo"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        patch.setenv("NO_PROXY", "*")
        blocks, address = start(Batcher(model, 16), "127.0.0.1", free_port(), share=False, queue=128)
        try:
            yield Served(model, address)
        finally:
            blocks.close(verbose=False)
            gc.collect()  # its event loops, while they may be unclosed


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    find_browser()
    with browser() as opened:
        yield opened


@dataclass
class Open:
    """The page in a browser, and all that it asked of another machine."""

    page: Any
    outside: list[str] = field(default_factory=list)

    @property
    def prompt(self) -> Any:
        return self.page.locator("#prompt textarea")

    @property
    def sources(self) -> list[str]:
        """The generated images."""
        return self.page.locator("#shown .images img").evaluate_all("images => images.map(image => image.src)")

    def wait_for(self, said: str) -> None:
        """Wait until the first image is of this prompt."""
        self.page.locator("#shown .images img").first.wait_for(timeout=WAIT)
        self.page.wait_for_function(
            "said => document.querySelector('#shown .images img').alt.startsWith(said)", arg=said, timeout=WAIT
        )

    def wait_for_others(self, before: list[str]) -> None:
        self.page.wait_for_function(
            "first => document.querySelector('#shown .images img').src !== first", arg=before[0], timeout=WAIT
        )


def opened(chromium: Any, served: Served, **options: Any) -> Open:
    page = chromium.new_context(**options).new_page()
    shown = Open(page)

    def note(request: Any) -> None:
        if not request.url.startswith((served.address, "data:", "blob:")):
            shown.outside.append(request.url)

    page.on("request", note)
    page.goto(served.address)
    shown.prompt.wait_for(timeout=WAIT)
    return shown


def test_who_types_sees_images_and_who_moves_the_slider_sees_others(chromium: Any, served: Served) -> None:
    shown = opened(chromium, served, viewport=DESKTOP)
    assert "prompt" in shown.page.evaluate("document.activeElement.closest('[id]').id"), "one types without a click"
    shown.page.keyboard.type("a red circle", delay=30)  # no Enter: images appear as one types
    shown.wait_for("a red circle")
    first = shown.sources
    assert len(first) == 4 and len(set(first)) > 1
    assert shown.page.locator("#shown h2").all_text_contents() == ["one_pass", "flow"]
    assert len(shown.page.locator("#shown .real img").all()) == 12
    said = shown.page.locator("#shown .latency").inner_text()
    assert all(part in said for part in ("encoder", "prior one_pass", "prior flow", "decoder", "4 images together"))
    assert "oracle" in shown.page.locator("#shown figcaption").first.inner_text()

    shown.prompt.fill("two green squares")
    shown.wait_for("two green squares")
    assert not set(first) & set(shown.sources)

    shown.page.locator("#second textarea").fill("a cyan heart")
    slider = shown.page.locator("#mix input[type=range]")
    slider.focus()
    slider.press("End")
    shown.wait_for("a cyan heart")
    last = shown.sources
    slider.press("ArrowLeft")
    shown.wait_for_others(last)
    assert not set(first + last) & set(shown.sources)
    shown.page.locator("#seed input").fill("5")
    shown.page.locator("#shown figcaption").get_by_text("seed 5").first.wait_for(timeout=WAIT)
    assert shown.outside == [], "the page asks nothing of another machine"
    shown.page.context.close()


def test_an_empty_prompt_is_an_error_and_an_emptied_field_is_none(chromium: Any, served: Served) -> None:
    shown = opened(chromium, served, viewport=DESKTOP)
    shown.prompt.fill("a star")
    shown.wait_for("a star")
    shown.prompt.fill("")
    shown.page.wait_for_timeout(700)
    assert shown.page.get_by_text("The prompt is empty").count() == 0
    shown.page.locator("#generate").click()
    shown.page.get_by_text("The prompt is empty: type what the image should show.").wait_for(timeout=WAIT)
    shown.prompt.fill("x" * 5000)
    assert len(shown.prompt.input_value()) <= 1000
    shown.prompt.fill("two white crosses")
    shown.prompt.press("Enter")
    shown.wait_for("two white crosses")
    shown.page.context.close()


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_a_phone_in_the_dark_and_in_the_light(chromium: Any, served: Served, scheme: str) -> None:
    shown = opened(chromium, served, viewport=PHONE, color_scheme=scheme)
    shown.prompt.fill("a red circle")
    shown.wait_for("a red circle")
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], "it scrolls sideways"
    read = "place => getComputedStyle(document.querySelector(place)).{}.match(/[0-9.]+/g).slice(0, 3).map(Number)"
    behind = shown.page.evaluate(read.format("backgroundColor"), "#shown article")
    text = shown.page.evaluate(read.format("color"), "#shown h2")
    assert (sum(behind) < 3 * 128) == (scheme == "dark")
    assert contrast(text, behind) > 7
    for name in ("Prompt", "Second prompt", "Seed", "Steps", "Guidance", "Negative prompt"):
        assert shown.page.get_by_label(name, exact=True).count(), name
    shown.page.context.close()


@pytest.fixture
def client(served: Served) -> Iterator[Any]:
    from gradio_client import Client

    opened = Client(served.address, verbose=False, max_workers=100)
    yield opened
    opened.close()


def pixels(image: Any) -> np.ndarray:
    return np.asarray(image.convert("RGB")).astype(int)


def test_a_hundred_calls_at_once_have_a_hundred_right_answers(client: Any, served: Served) -> None:
    shapes, priors = ("circle", "star", "heart", "cross", "square"), ("one_pass", "flow")
    asked = [Request(f"a red {shapes[k % 5]}", priors[k % 2], seed=k) for k in range(100)]
    jobs = [client.submit(prompt=one.prompt, prior=one.prior, seed=one.seed, api_name="/generate") for one in asked]
    answers = [job.result(timeout=200) for job in jobs]
    together = [facts["seconds"]["images"] for _, facts in answers]
    assert sum(1 / count for count in together) < 30, "they were not answered together"
    right = [answer for start in range(0, 100, 16) for answer in served.model.generate(asked[start : start + 16])]
    for one, direct, (path, facts) in zip(asked, right, answers, strict=True):
        with Image.open(path) as image:
            assert abs(pixels(image) - pixels(direct.image)).max() <= GREY_LEVELS, one
        assert (facts["request"]["prompt"], facts["request"]["seed"]) == (one.prompt, one.seed)
        assert facts["scores"].keys() == {"oracle"}


def test_equal_calls_do_not_share_a_file(client: Any, served: Served) -> None:
    """Gradio writes equal images to one file in place: who reads it then gets an error."""
    job = client.submit(prompt="a red heart", prior="one_pass", seed=1, api_name="/generate")
    other = client.submit(prompt="a red heart", prior="one_pass", seed=1, api_name="/generate")
    names = {Path(one.result(timeout=100)[0]).name for one in (job, other)}
    assert len(names) == 2 and all(name.endswith(".png") for name in names)


def test_calls_that_are_not_valid_get_a_sentence_and_cost_the_others_nothing(client: Any) -> None:
    bad = [
        ({"prompt": ""}, "The prompt is empty"),
        ({"prompt": "word " * 10_000}, "has 50000 characters"),
        ({"prompt": "a", "prior": "another"}, "There is no prior 'another'"),
        ({"prompt": "a", "seed": 1.5}, "The seed is 1.5; give a whole number"),
        ({"prompt": "a", "prior": "flow", "steps": 2.5}, "The number of steps is 2.5; give a whole number"),
        ({"prompt": "a", "steps": 3}, "has neither steps nor guidance"),
        ({"prompt": "a", "mix": None}, "mix is null: give a value, or leave it out for its default"),
    ]
    jobs = [(client.submit(**words, api_name="/generate"), said) for words, said in bad]
    good = [client.submit(prompt="a star", seed=seed, api_name="/generate") for seed in range(4)]
    for job, said in jobs:
        with pytest.raises(Exception, match=said):
            job.result(timeout=100)
    assert all(job.result(timeout=100)[0] for job in good)


def test_the_guide_asks_it_in_ten_lines(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(ROOT / "docs/demo.md", "python")
    assert len([line for line in code.splitlines() if line]) <= 10
    names: dict[str, Any] = {}
    exec(code.replace("http://127.0.0.1:7860/", served.address), names)
    images = [names["image"], *names["images"]]
    assert [image.size for image in images] == [(64, 64)] * 9
    for image in images:
        image.close()
    names["client"].close()
    assert "'decoder'" in capsys.readouterr().out


def test_no_file_and_no_other_endpoint_is_taken(client: Any, served: Served) -> None:
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == {"/generate"}
    types = {one["parameter_name"]: one["python_type"]["type"] for one in endpoints["/generate"]["parameters"]}
    assert (types["prompt"], types["seed"], types["mix"], types["steps"]) == ("str", "float", "float", "float")
    sent = httpx.post(f"{served.address}gradio_api/upload", files={"files": ("a.txt", b"a" * 5000)}, trust_env=False)
    assert sent.status_code == 413


def test_more_than_the_queue_holds_is_refused(tmp_path_factory: pytest.TempPathFactory, served: Served) -> None:
    from gradio_client import Client

    held, go = threading.Event(), threading.Event()
    model = object.__new__(Holding)
    model.__dict__.update(served.model.__dict__, held=held, go=go)
    blocks, address = start(Batcher(model, 1), "127.0.0.1", free_port(), share=False, queue=2)
    try:
        client = Client(address, verbose=False)
        jobs = [client.submit(prompt="a star", api_name="/generate")]
        assert held.wait(60)
        jobs += [client.submit(prompt="a star", api_name="/generate") for _ in range(9)]
        # one is answered, one waits for its turn (twice a batch are let in), two stand in the queue
        end = time.monotonic() + 60
        while sum(job.done() for job in jobs) < 6:
            assert time.monotonic() < end
            time.sleep(0.1)
        go.set()
        failed = [error for job in jobs if (error := job.exception(timeout=60))]
        assert len(failed) == 6 and all("full" in str(error) for error in failed)
        client.close()
    finally:
        go.set()
        blocks.close(verbose=False)


class Holding(DemoModel):
    """Waits with its first batch."""

    held: threading.Event
    go: threading.Event

    def generate(self, requests: Any) -> Any:
        self.held.set()
        assert self.go.wait(60)
        return super().generate(requests)
