"""A mistake in a part or a protocol is one sentence with the key, the file and the line, at whatever depth it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from eclipse_pl.__main__ import main as command
from eclipse_pl.sweeps.readers import BenchmarkReader
from eclipse_pl.usage_error import entries
from tests.helpers.runs import write_experiment

PARTS = Path(__file__).parent.parent / "experiments" / "parts"
PROTOCOL = (PARTS / "protocol" / "world.yaml").read_text()
READER = BenchmarkReader()

KEYS = [
    (key.value, key.start_mark.line)
    for key, _ in entries(yaml.compose(PROTOCOL))
    if key.value not in ("class_path", "init_args", "scorer")  # without which it is no class, or another fault
]


def answer(capfd: Any, words: list[str]) -> str:
    """All that a command says to a mistake, which is one line."""
    try:
        assert command(words) == 2
    except SystemExit as stop:
        assert stop.code == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("INFO")]
    assert len(lines) == 1, lines
    assert "loop detected" not in lines[0] and "usage" not in lines[0]
    return lines[0]


@pytest.mark.parametrize(("key", "line"), KEYS, ids=lambda value: str(value))
def test_every_key_of_a_protocol_is_named_where_it_is_misspelt(tmp_path: Path, key: str, line: int) -> None:
    lines = PROTOCOL.split("\n")
    lines[line] = lines[line].replace(f"{key}:", f"{key[:-1]}qq:", 1)
    path = tmp_path / "protocol.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=f"{key[:-1]}qq") as refused:
        READER.read(["benchmark", "--protocol", str(path), "--out", "x", "--prior", "y"])
    said = str(refused.value)
    assert f"({path}, line {line + 1})" in said
    assert "loop" not in said
    assert f"near it: {key}" in said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("per_category: 40", "per_category: many", ["per_category", "<class 'int'>", "many", "line 6"]),
        ("images_per_prompt: 1", "images_per_prompt: 1.5", ["images_per_prompt", "<class 'int'>", "1.5", "line 14"]),
        ("WorldPrompts", "WorldPromts", ["prompt_source", "WorldPromts", "near it: WorldPrompts", "line 4"]),
        ("eclipse_pl.world.oracle.OracleScorer", "eclipse_pl.wrld.oracle.OracleScorer", ["wrld", "line 13"]),
        ("init_args:", "init_args: [", ["protocol.yaml", "line 4"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_type_a_wrong_class_and_what_is_no_yaml(tmp_path: Path, old: str, new: str, said: list[str]) -> None:
    path = tmp_path / "protocol.yaml"
    assert old in PROTOCOL
    path.write_text(PROTOCOL.replace(old, new, 1))
    with pytest.raises(ValueError, match=r"protocol\.yaml") as refused:
        READER.read(["benchmark", "--protocol", str(path), "--out", "x", "--prior", "y"])
    for words in said:
        assert words in str(refused.value)


@pytest.mark.long
@pytest.mark.parametrize(
    ("group", "written", "said"),
    [
        (
            "decoder",
            "class_path: eclipse_pl.world.decoder.WorldDecoder\ninit_args:\n  guidence: 3.0\n",
            ("guidence", "line 3"),
        ),
        ("decoder", "class_path: eclipse_pl.world.decoder.WordlDecoder\n", ("WordlDecoder", "line 1")),
        ("decoder", "class_path: x\n  init_args: [\n", ("part.yaml", "line 2")),
        ("trainer", "accelerator: cpu\nmax_step: 3\n", ("max_step", "line 2")),
        ("trainer", "max_steps: 1e2\n", ("max_steps", "<class 'int'>")),
        ("config", "model:\n  optimizer:\n    init_args:\n      lrr: 1\n", ("lrr", "line 4")),
        ("config", "model:\n  optimizer:\n    init_args:\n      lr: fast\n", ("lr", "fast")),
        ("config", "model: [\n", ("part.yaml", "line 2")),
        ("config", None, ("part.yaml", "there is no file")),
        ("decoder", None, ("part.yaml", "there is no file")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_in_a_file_of_a_fit(tmp_path: Path, capfd: Any, group: str, written: str | None, said: tuple) -> None:
    part = tmp_path / "part.yaml"
    if written is not None:
        part.write_text(written)
    line = answer(capfd, ["fit", "--config", str(write_experiment(tmp_path)), f"--{group}", str(part)])
    for words in ("part.yaml", *said):
        assert words in line
    assert not (tmp_path / "runs").exists()


def test_numbers_with_an_exponent_are_numbers(tmp_path: Path, capfd: Any) -> None:
    """YAML itself reads 1e-5 as text."""
    part = tmp_path / "part.yaml"
    part.write_text(
        "model:\n  optimizer:\n    init_args:\n      lr: 1e-5\n      eps: 1e-4\ntrainer:\n  gradient_clip_val: 1e-1\n"
    )
    with pytest.raises(SystemExit) as stop:
        command(["fit", "--config", str(write_experiment(tmp_path)), "--config", str(part), "--print_config"])
    assert stop.value.code == 0
    stated = yaml.safe_load(capfd.readouterr().out)
    assert (
        stated["model"]["optimizer"]["init_args"] | {"lr": 1.0e-5, "eps": 1.0e-4} == stated["model"]["optimizer"]["init_args"]
    )
    assert stated["trainer"]["gradient_clip_val"] == 0.1
