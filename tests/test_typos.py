"""A typo in a command, a file name or an option: one sentence with what is near, from every command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_prep.__main__ import COMMANDS as DATA_PREP
from data_prep.__main__ import main as data_prep
from eclipse_pl.__main__ import COMMANDS
from eclipse_pl.__main__ import main as command

ROOT = Path(__file__).parent.parent


def answer(capfd: Any, run: Callable[[list[str]], int], *words: str) -> str:
    """What one command prints on stderr, which is one line."""
    try:
        assert run(list(words)) == 2
    except SystemExit as stop:
        assert stop.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("run", "name"), [*((command, name) for name in COMMANDS), *((data_prep, name) for name in DATA_PREP)]
)
def test_commands(run: Callable[[list[str]], int], name: str, capfd: Any) -> None:
    assert f"there is no command '{name}e'. Near it: {name}." in answer(capfd, run, f"{name}e")


@pytest.mark.parametrize("name", COMMANDS)
def test_options(name: str, capfd: Any) -> None:
    needed = {"init": ["x"], "compare": ["x"], "sweep": ["x"]}.get(name, [])
    assert "nrecognized arguments: --no_such" in answer(capfd, command, name, *needed, "--no_such", "3")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fit", "--trainer.max_step", "3"], "Near it: --trainer.max_steps."),
        (["fit", "--model.prior", "FlowPrio"], "Near it: eclipse_pl.priors.FlowPrior."),
        (["benchmark", "--decoder", "WorldDecodr"], "Near it: eclipse_pl.world.decoder.WorldDecoder."),
        (["fit", "--run.experimen", "x"], "Near it: --run.experiment."),
        (["sample", "--priro", "x"], "Near it: --prior."),
        (["export", "--priro", "x"], "Near it: --prior."),
        (["nearest", "--promt", "x"], "Near it: --prompt."),
        (["import", "--weigths", "x"], "Near it: --weights."),
        (["benchmark", "--protocl", "x"], "Near it: --protocol."),
        (["speed", "--olny", "step"], "Near it: --only."),
        (["compare", "x", "--csvv", "y"], "Near it: --csv."),
        (["sweep", "x", "--jbos", "2"], "Near it: --jobs."),
        (["benchmark", "--protoco", "x"], "Near it: --protocol."),
        (["compare", "x", "--referenc", "y"], "Near it: --reference."),
        (
            ["sample", "--prior", "x", "a red circle"],
            "a red circle. A value follows the name of its option; python -m eclipse_pl sample --help lists the options.",
        ),
        (["fit", "quickstart.yaml"], "of its option; python -m eclipse_pl fit --help lists the options."),
    ],
)
def test_near_options(words: list[str], expected: str, capfd: Any) -> None:
    assert answer(capfd, command, *words).endswith(expected)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["world", "--shard_pair", "3"], "Near it: --shard_pairs."),
        (["world-models", "--onyl", "clip"], "Near it: --only."),
        (["embed", "--sourc", "x.tar"], "Near it: --source."),
        (["verify", "x", "--batch", "3"], "unrecognized arguments: --batch 3."),
        (["import-embeddings", "--image_embed", "x.npy"], "Near it: --image_embeds."),
        (["prompts", "--soruce", "x"], "Near it: --source."),
    ],
)
def test_near_options_of_data_prep(words: list[str], expected: str, capfd: Any) -> None:
    assert answer(capfd, data_prep, *words).endswith(expected)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["fit", "--config", "experiments/quickstrat.yaml"],
            "there is no file experiments/quickstrat.yaml. Near it: quickstart.yaml",
        ),
        (["fit", "--config", "experimnts/quickstart.yaml"], "Near it: experiments."),
        (
            ["sample", "--prior", "x", "--prompt", "x", "--decoder", "experiments/parts/decoder/wordl.yaml"],
            "Near it: world.yaml",
        ),
        (["benchmark", "--prior", "x", "--protocol", "experiments/parts/protocol/wrld.yaml", "--out", "x"], "Near it: world"),
        (["sweep", "experiments/sweeps/lambda_wrld.yaml"], "ear it: experiments/sweeps/lambda_world.yaml"),
    ],
)
def test_files(words: list[str], expected: str, capfd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert expected in answer(capfd, command, *words)
