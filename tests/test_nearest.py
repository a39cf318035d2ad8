from pathlib import Path

import matplotlib
import pytest
import torch
from PIL import Image

from eclipse_pl.__main__ import main as command
from eclipse_pl.commands.nearest import Neighbours, draw, nearest
from tests.helpers.raw_sets import write_images
from tests.helpers.runs import write_experiment

pytestmark = pytest.mark.long

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture(scope="module")
def world_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nearest")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        arguments = [
            "fit",
            "--config",
            str(EXPERIMENTS / "quickstart.yaml"),
            "--config",
            str(EXPERIMENTS / "overlays/smoke.yaml"),
        ]
        assert command([*arguments, f"--data.init_args.folder={folder / 'world'}"]) == 0
    return folder / "runs" / "quickstart" / "version_0"


@pytest.mark.processes
def test_an_image_with_the_neighbours_of_each_prompt(world_run, tmp_path):
    found = nearest(str(world_run), ["a red circle", "two blue stars"], str(tmp_path / "out.png"), count=3)
    assert [one.prompt for one in found] == ["a red circle", "two blue stars"]
    for one in found:
        assert len(set(one.keys)) == 3
        assert one.cosines == sorted(one.cosines, reverse=True)
        assert one.tokens == 2 + len(one.prompt.split())
    with Image.open(tmp_path / "out.png") as image:
        assert image.width > image.height > 100


@pytest.mark.parametrize(
    ("passes", "words"), [(1, "prior, 1 forward pass →"), (25, "prior, 25 forward passes →"), (None, "prior →")]
)
def test_the_image_names_the_forward_passes_of_its_prior(tmp_path, passes, words):
    one = Neighbours("a red circle", 5, torch.ones(4), [("key", 0)], ["a circle"], [1.0])
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw([one], {("key", 0): Image.new("RGB", (4, 4))}, "test", passes, tmp_path / "out.svg")
    assert f"5 tokens → {words}" in (tmp_path / "out.svg").read_text(encoding="utf-8")


def test_the_image_shows_the_prompt_as_it_was_typed(tmp_path):
    one = Neighbours("$5 or $9", 5, torch.ones(4), [("key", 0)], ["a circle"], [1.0])
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw([one], {("key", 0): Image.new("RGB", (4, 4))}, "test", 1, tmp_path / "out.svg")
    assert "“$5 or $9”</text>" in (tmp_path / "out.svg").read_text(encoding="utf-8")  # a comment holds it in any case


def test_the_same_seed_gives_the_same_embedding(world_run, tmp_path):
    first, again, other = (
        nearest(str(world_run), "a red circle", str(tmp_path / "out.png"), seed=seed)[0].image_embed for seed in (0, 0, 1)
    )
    assert first.equal(again)
    assert not first.equal(other)


def test_mistakes(world_run, tmp_path, capfd):
    table = tmp_path / "pairs.csv"
    table.write_text(f"image,caption\n{write_images(tmp_path, range(1))}/0.png,a cat\n")
    for arguments, said in (
        (["--prior", str(tmp_path)], "is not the folder of a run"),
        (["--prior", str(world_run), "--split", "dev"], "has no split 'dev'"),
        (
            ["--prior", str(world_run), "--images", str(tmp_path / "*.tar")],
            "Give the source that the shards were made of, for example --images",
        ),
        (["--prior", str(world_run), "--images", str(table)], f"in {table}, images 0 to 0. Give the source that"),
    ):
        assert command(["nearest", "--prompt", "a red circle", *arguments]) == 2
        assert said in capfd.readouterr().err
    assert command(["fit", "--config", str(write_experiment(tmp_path))]) == 0
    assert command(["nearest", "--prompt", '["a star"]', "--prior", str(tmp_path / "runs/tiny/version_0")]) == 2
    assert "--encoder is needed" in capfd.readouterr().err


@pytest.mark.parametrize("count", ["0", "-1"])
def test_a_count_that_cannot_be(capfd, count):
    assert command(["nearest", "--prior", "none", "--prompt", "a star", f"--count={count}"]) == 2
    assert f"--count is {count}; it must be 1 or more" in capfd.readouterr().err


@pytest.mark.parametrize("out", ["shots", "shots.txt", "."])
def test_a_name_of_no_image_is_refused_before_the_work(capfd, out):
    """`shots` became `shots.png`, and an ending that matplotlib lacks was found after all work."""
    assert command(["nearest", "--prior", "none", "--prompt", "a star", f"--out={out}"]) == 2
    assert f"--out {out} is no name of an image. Let it end in .png" in capfd.readouterr().err


@pytest.mark.parametrize("verb", ["nearest", "sample"])
def test_a_seed_that_torch_does_not_take(capfd, verb):
    """It ended in `Overflow when unpacking long long`."""
    assert command([verb, "--prior", "none", "--prompt", "a star", f"--seed={2**64}"]) == 2
    assert f"--seed is {2**64}; it must be from {-(2**63)} to {2**64 - 1}" in capfd.readouterr().err
