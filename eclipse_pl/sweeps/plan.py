from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eclipse_pl.device import commit
from eclipse_pl.dotted_keys import flat
from eclipse_pl.launch.task import Task
from eclipse_pl.priors.checkpoint import read_config
from eclipse_pl.sweeps.config_hash import hash_of
from eclipse_pl.sweeps.sweep_file import SweepFile, Values, in_order, near
from eclipse_pl.sweeps.swept import swept_words
from eclipse_pl.sweeps.target import TARGETS, stated


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep: its name, its parameters, and its task."""

    version: str
    values: Values
    task: Task
    config_hash: str = ""
    """By which results of two configs are told apart; see `eclipse_pl.sweeps.config_hash`."""


class SweepPlan:
    """All runs of a sweep, each checked by reading its real command line before the first of them starts.

    Args:
        file: What is swept.
        count: The largest number of runs.
        seed: Of random draws.
        threads: OMP_NUM_THREADS of each run.
        hashed: Whether runs have their ``config_hash``, which takes time.

    Raises:
        ValueError: A parameter is unknown or cannot have its value; a folder holds results of something else.
    """

    def __init__(self, file: SweepFile, count: int | None, seed: int, threads: str, hashed: bool = False) -> None:
        self.file, self.hashed = file, hashed
        self.commit = commit()  # asked once: the process that forks the runs imports the code once
        values = file.runs(count, seed)
        self.runs = [self._run(*each, threads) for each in zip(file.versions(values), values, strict=True)]
        folders = {Path(run.task.folder).parent for run in self.runs}
        if len(folders) > 1:
            raise self._error(f"the runs would lie in {' and '.join(sorted(map(str, folders)))}, but run.folder must be one")
        (self.folder,) = folders

    def _error(self, message: str) -> ValueError:
        return ValueError(f"{self.file.path}: {message.removesuffix('.')}.")

    def _run(self, version: str, values: Values, threads: str) -> SweepRun:
        command = self.file.words(values)
        try:
            words = arguments(command)
            target = TARGETS[words[0]](self.file.name, version, words)
        except ValueError as error:
            raise self._blame(values, error) from None
        task = Task(
            name=version,
            command=[*command, *target.identity],
            folder=str(target.folder),
            checkpoint=str(target.checkpoint),
            resume=target.resume,
            finished_by=str(target.finished_by),
            environment={"OMP_NUM_THREADS": threads},
            commit=self.commit,
        )
        task.require_own_folder()
        if target.config.is_file():
            require_same_config(target.config, stated(words[0]))
        config_hash = hash_of(stated(words[0], defaults=False), values) if self.hashed else ""
        return SweepRun(version, values, task, config_hash)

    def _blame(self, values: Values, error: ValueError) -> ValueError:
        """Name the first parameter with which the command cannot be read: is it unknown, or is its value wrong?

        A command that cannot be read without any, such as ``validate`` without its checkpoint, keeps the error of all.
        """
        names, whole = in_order(values), error
        for place in reversed(range(len(names))):
            try:
                words = arguments(self.file.words({name: values[name] for name in names[:place]}))
                TARGETS[words[0]](self.file.name, "-", words)
            except ValueError as earlier:
                error = earlier
                continue
            name, known = names[place], list(flat(stated(words[0])))
            if name == "config" or is_known(name, known):
                return self._error(f"{name} cannot be {values[name]} ({error})")
            ends = [path for path in known if path.rpartition(".")[2] == name.rpartition(".")[2]]
            alike = list(dict.fromkeys(ends + difflib.get_close_matches(name, known, n=3)))
            hint = f"Near it: {', '.join(alike)}" if alike else "--print_config lists all"
            return self._error(f"there is no parameter {name}. {hint}")
        return self._error(str(whole))


def arguments(command: list[str]) -> list[str]:
    """The arguments of eclipse_pl: ``fit`` and everything after it.

    Raises:
        ValueError: The command runs another program, or names a config that does not exist.
    """
    words = swept_words(command)
    for word, following in zip(command, [*command[1:], ""], strict=True):
        path = following if word in ("-c", "--config") else word.removeprefix("--config=")
        if path != word and not Path(path).is_file():
            raise ValueError(f"there is no config {path}{near(Path(path))}")
    return words


def require_same_config(path: Path, config: dict[str, Any]) -> None:
    """Check that the config of a run is still the one that the file in its folder states.

    Options that only one of the two configs has are ignored: an option that is new in the code does not change old runs.

    Raises:
        ValueError: An option has another value now.
    """
    then, now = flat(read_config(path)), flat(config)
    changed = [key for key in then if key in now and then[key] != now[key] and key != "ckpt_path"]
    if changed:
        examples = "; ".join(f"{key} was {then[key]} and is {now[key]}" for key in changed[:3])
        raise ValueError(
            f"{path.parent} was made with another config: {examples}. Results of both would be mixed. Give the sweep another "
            "name, or move the folder away."
        )


def is_known(name: str, paths: Iterable[str]) -> bool:
    """Whether a name is an option or a group of options; both names may leave out init_args."""
    name = name.replace(".init_args", "")
    return any(f"{path.replace('.init_args', '')}.".startswith(f"{name}.") for path in paths)
