from __future__ import annotations

import difflib
import hashlib
import itertools
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

from eclipse_pl.dotted_keys import shortest
from eclipse_pl.launch.task import INTERPRETER
from eclipse_pl.sweeps.parameter import Parameter
from eclipse_pl.sweeps.swept import MODULES, swept_words

Values = dict[str, Any]
"""One run: {parameter: value}."""

KEYS = ("name", "method", "metric", "parameters", "command", "program", "run_cap", "description", "project", "entity")
"""The last three are for the server of Weights & Biases, and are ignored."""

EXAMPLE = "command: [${env}, ${interpreter}, -m, eclipse_pl, fit, --config, experiments/quickstart.yaml, ${args}]"
MACROS = ("${env}", INTERPRETER, "${program}", "${args}", "${args_no_equals}")
IDENTITY = ("--run.experiment", "--run.version", "--out")
LONGEST_NAME = 100
NUMBERED = re.compile(r"version_\d+")
"""A version without a given name."""


@dataclass(frozen=True)
class SweepFile:
    """A sweep file of Weights & Biases: `wandb sweep` and `wandb agent` take the same file as it is.

    Raises:
        ValueError: The file asks for what this program cannot do, or what the agent would do in another way.
    """

    path: Path
    name: str
    method: str
    command: list[str]
    program: str | None
    parameters: list[Parameter]
    run_cap: int | None
    metric: str | None

    @classmethod
    def read(cls, path: str | Path) -> SweepFile:
        try:
            return cls._of(Path(path), load(Path(path)))
        except ValueError as error:
            raise ValueError(f"{path}: {error}.") from error

    @classmethod
    def _of(cls, path: Path, content: dict[str, Any]) -> SweepFile:
        for key in content:
            if key not in KEYS:
                meant = difflib.get_close_matches(str(key), KEYS, n=1)
                raise ValueError(f"the key {key} is unknown; the keys are {', '.join(meant or KEYS)}")
        method = content.get("method")
        if method == "bayes":
            raise ValueError("method bayes needs the server of Weights & Biases (`wandb sweep`); use grid or random")
        if method not in ("grid", "random"):
            raise ValueError(f"method is {method}; it must be grid or random")
        parameters, metric = content.get("parameters"), content.get("metric", {})
        if not isinstance(parameters, dict) or not parameters:
            raise ValueError("parameters is empty, so there is nothing to sweep")
        if not isinstance(metric, dict) or not isinstance(metric.get("name", ""), str):
            raise ValueError(f"metric is {metric}; write {{name: val/cosine, goal: maximize}}")
        if (goal := metric.get("goal", "minimize")) not in ("minimize", "maximize"):
            raise ValueError(f"the goal of metric is {goal}; `wandb sweep` takes minimize or maximize")
        file = cls(
            path=path,
            name=safe(str(content.get("name") or path.stem)),
            method=method,
            command=command_words(content.get("command")),
            program=content.get("program"),
            parameters=[Parameter(name, specification, method) for name, specification in parameters.items()],
            run_cap=content.get("run_cap"),
            metric=metric.get("name"),
        )
        if "${program}" in file.command and not file.program:
            raise ValueError("command has ${program}, but program is not given")
        if set(file.name) == {"."}:
            raise ValueError(f"name is {file.name}, but it is that of a folder in runs/; give the sweep another name")
        if given := [parameter.name for parameter in file.parameters if f"--{parameter.name}" in IDENTITY]:
            raise ValueError(f"{given[0]} cannot be swept: every run has its own folder, FOLDER/NAME/VERSION")
        if not file.varying:
            raise ValueError("no parameter varies, so there is nothing to sweep; give one of them `values`")
        return file

    @property
    def varying(self) -> list[Parameter]:
        return [parameter for parameter in self.parameters if parameter.varies]

    @property
    def module(self) -> str:
        """The module that its command imports.

        Raises:
            ValueError: The command runs another program.
        """
        try:
            return MODULES[swept_words(self.words({}))[0]]
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}.") from error

    def words(self, values: Values) -> list[str]:
        """The command of one run, with the flags that the agent would make; ``${interpreter}`` is left to Task."""
        flags = [(f"--{name}", str(values[name])) for name in in_order(values)]
        macros = {
            "${env}": ["/usr/bin/env"],
            "${program}": [str(self.program)],
            "${args}": ["=".join(flag) for flag in flags],
            "${args_no_equals}": [word for flag in flags for word in flag],
        }
        return [word for part in self.command for word in macros.get(part, [part])]

    def runs(self, count: int | None = None, seed: int = 0) -> list[Values]:
        """Every combination (grid), the last parameter of the file fastest, or ``count`` different draws (random).

        Both end at ``run_cap``, and a larger ``count`` begins with the runs of a smaller one.
        """
        caps = [cap for cap in (count, self.run_cap) if cap is not None]
        if any(type(cap) is not int or cap < 1 for cap in caps):
            raise ValueError(f"run_cap and --count must be at least 1, and are {', '.join(map(str, caps))}.")
        names = [parameter.name for parameter in self.parameters]
        if self.method == "grid":
            combinations = itertools.product(*(parameter.axis() for parameter in self.parameters))
            return [dict(zip(names, each, strict=True)) for each in itertools.islice(combinations, min(caps, default=None))]
        if not caps:
            raise ValueError(f"{self.path}: random draws do not end by themselves; give run_cap, or --count.")
        wanted, rng = min(caps), Random(seed)
        found: list[Values] = []
        for _ in range(100 * wanted):
            values = {parameter.name: parameter.draw(rng) for parameter in self.parameters}
            if values not in found:
                found.append(values)
            if len(found) == wanted:
                return found
        raise ValueError(f"{self.path}: {100 * wanted} draws gave only {len(found)} different runs; use a grid, or --count.")

    def versions(self, runs: list[Values]) -> list[str]:
        """A name for each run, made of what varies: ``contrastive_weight=0.2,seed_everything=3``.

        It does not depend on how many runs are listed. A name that two runs would have gets a hash: in a grid those of both,
        among draws that of the later.
        """
        short = shortest(parameter.name for parameter in self.varying)
        shared = (
            {parameter.name: shared_labels(parameter.axis()) for parameter in self.varying} if self.method == "grid" else {}
        )
        taken: set[str] = set()
        found = []
        for values in runs:
            labels = {name: label(values[name]) for name in short}
            name = ",".join(f"{short[key]}={each}" for key, each in labels.items())
            # two names of a grid are the same where the labels of each parameter are, as no label has a comma
            twice = any(labels[key].casefold() in shared[key] for key in shared) or name.casefold() in taken
            taken.add(name.casefold())
            found.append(f"{name[: LONGEST_NAME - 9]}-{digest(values)}" if twice or len(name) > LONGEST_NAME else name)
        return found


def load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"there is no such sweep file{near(path)}")
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"this is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError("a sweep file is a mapping with method, parameters and command")
    return content


def near(path: Path) -> str:
    """Names of existing files that are like a missing one."""
    names = difflib.get_close_matches(path.name, [file.name for file in path.parent.glob("*.yaml")], n=3)
    return f"; near it: {', '.join(str(path.with_name(name)) for name in names)}" if names else ""


def command_words(command: Any) -> list[str]:
    """The words of ``command`` with ``${envvar:NAME}`` filled in as the agent does."""
    if not isinstance(command, list) or not command:
        raise ValueError(f"the command is missing, or no list of words; write, for example, {EXAMPLE}")
    words = [
        re.sub(r"\$\{envvar:([A-Z0-9_]*)\}", lambda name: os.environ.get(name[1], name[1]), str(word)) for word in command
    ]
    unknown = [word for word in words if word.startswith("${") and word not in MACROS]
    if unknown:  # the agent would leave it out
        raise ValueError(f"the command has {unknown[0]}; it may have {', '.join(MACROS)} and ${{envvar:NAME}}")
    if sum(word in ("${args}", "${args_no_equals}") for word in words) != 1:
        raise ValueError("the command must have ${args} once, or the parameters would not reach the runs")
    if given := [word for word in words if word.startswith(IDENTITY)]:
        raise ValueError(f"the command has {given[0]}, but every run has its own folder, FOLDER/NAME/VERSION")
    return words


def in_order(values: Values) -> list[str]:
    """Sorted as the agent's flags are, but a config comes before what changes it."""
    return sorted(values, key=lambda name: (name != "config", name))


def text(value: Any) -> str:
    """Short, for names and tables: six digits of a number, the last part of a path, two of a run called version_0."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if not isinstance(value, str) or not value:
        return str(value)
    path = Path(value)
    return "/".join(path.parts[-2:]) if NUMBERED.fullmatch(path.name) else path.name.removesuffix(".yaml")


def label(value: Any) -> str:
    return safe(text(value))


def shared_labels(values: list[Any]) -> set[str]:
    """Labels that several values have. Some file systems do not distinguish A and a."""
    often = Counter(label(value).casefold() for value in values)
    return {each for each, count in often.items() if count > 1}


def safe(name: str) -> str:
    """For file systems, shells and Weights & Biases."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("-") or "-"


def digest(values: Values) -> str:
    return hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()[:8]
