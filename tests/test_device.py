"""One function picks and checks every device. A misspelt or missing device gives one sentence."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eclipse_pl.__main__ import main as command
from eclipse_pl.commands.sample import sample
from eclipse_pl.decoders.batches import lacks_memory
from eclipse_pl.decoders.kandinsky import KandinskyDecoder
from eclipse_pl.device import commit, pick_device
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.scorers.clip_towers import OpenClip
from eclipse_pl.text_to_image.diffusers_pipeline import DiffusersPipeline
from eclipse_pl.text_to_image.prior_and_decoder import PriorAndDecoder
from eclipse_pl.world.decoder import WorldDecoder
from eclipse_pl.world.encoder import WorldEncoder

WRONG = ["", "gpu", "cuda:x", "CUDA", "mps", "meta", "cuda", "cuda:7"]

TAKERS: dict[str, Callable[[str], object]] = {
    "encoder": lambda device: OpenClipEncoder("ViT-B-32", "random", device=device),
    "decoder": lambda device: KandinskyDecoder("a/repository", "world", device=device),
    "pipeline": lambda device: DiffusersPipeline("a/repository", device=device),
    "prior": lambda device: PriorAndDecoder("a run", WorldDecoder(), device=device),
    "scorer": lambda device: OpenClip("ViT-B-32", None, device),
    "sample": lambda device: sample("a run", ["a red star"], device=device),
    "speed": lambda device: command(["speed", "--only", "loader", "--device", device]),
}


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", cache(lambda: False))


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("taker", TAKERS)
def test_a_device_that_is_misspelt_or_not_there_is_named(taker: str, name: str, capfd: Any) -> None:
    try:
        assert TAKERS[taker](name) == 2, "what a command answers to a mistake"
        message = capfd.readouterr().err
    except ValueError as error:
        message = str(error)
    assert f"device is {name!r}" in message
    assert "choose auto, cpu, cuda" in message or "Use auto or cpu" in message


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", cache(lambda: True))


def test_apples_gpu_is_picked_where_float64_is_not_needed(apple: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_device("auto", float64=False) == pick_device("mps", float64=False) == torch.device("mps")
    assert pick_device("auto") == torch.device("cpu")
    with pytest.raises(ValueError, match="'mps', and this part computes in double precision"):
        pick_device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto", float64=False) == torch.device("cuda")


def test_decoders_and_pipelines_work_on_apples_gpu_and_scorers_on_the_cpu(apple: None) -> None:
    assert KandinskyDecoder("a/repository", "world").device == DiffusersPipeline("a/repository").device == torch.device("mps")
    assert OpenClip("ViT-B-32", None).device == torch.device("cpu")
    with pytest.raises(ValueError, match="works on mps, which shares the memory of the CPU: set offload to false"):
        KandinskyDecoder("a/repository", "world", offload=True)


def test_memory_that_apples_gpu_lacks_is_recognised() -> None:
    assert lacks_memory(RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GiB)"))
    assert not lacks_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_of_two_gpus_there_is_no_third(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [pick_device(name) for name in ("auto", "cuda", "cuda:1", "cpu")] == [
        torch.device(name) for name in ("cuda", "cuda", "cuda:1", "cpu")
    ]
    with pytest.raises(ValueError, match=r"'cuda:2', and torch finds 2 GPUs, numbered from 0"):
        pick_device("cuda:2")


@given(st.text(max_size=8) | st.from_regex(r"(cpu|cuda|xpu|mps|meta|auto)(:-?\d{0,3})?", fullmatch=True))
def test_any_word_is_a_device_or_a_sentence(name: str) -> None:
    try:
        assert pick_device(name).type == "cpu"
    except ValueError as error:
        assert repr(name) in str(error)


def test_an_encoder_moves_to_its_device_when_it_is_used() -> None:
    """Configs build it before a rank knows its GPU, and all would go to the first one."""
    encoder = WorldEncoder(device="cpu")
    encoder.device = torch.device("meta")  # stands for the GPU that this rank has been given since
    assert {parameter.device.type for parameter in encoder.model.parameters()} == {"cpu"}
    with pytest.raises(RuntimeError, match="autocast"):  # as far as that device goes
        encoder.encode_images(torch.zeros(1, 3, encoder.image_size, encoder.image_size))
    towers = {name.startswith("visual."): parameter.device.type for name, parameter in encoder.model.named_parameters()}
    assert towers == {True: "meta", False: "cpu"}, "training on token ids needs the text tower alone, so each moves by itself"
    with pytest.raises(RuntimeError, match="autocast"):
        encoder.encode_text(["a red circle"])
    assert {parameter.device.type for parameter in encoder.model.parameters()} == {"meta"}


@pytest.mark.processes
def test_the_commit_is_that_of_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    assert " " not in commit()
    monkeypatch.setenv("PATH", "")
    assert commit() == "unknown"
