"""The options of a command line, read without building anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from eclipse_pl.cli import PriorCLI, run_cli
from eclipse_pl.command_line import exit_as_error
from eclipse_pl.commands.benchmark import build_parser


class ArgumentReader:
    """Reads the options of ``fit``, ``validate`` and ``test``."""

    def __init__(self) -> None:
        self._cli: PriorCLI | None = None  # made once: its parser takes longer to build than to use

    def read(self, args: list[str]) -> Any:
        """All options, defaults included.

        Raises:
            ValueError: The command would refuse these arguments.
        """
        with exit_as_error():
            if self._cli is None:
                self._cli = run_cli(args, _Reader)
            else:
                self._cli.parse_arguments(self._cli.parser, args)
        return self._cli.config[self._cli.config.subcommand]

    def stated(self, defaults: bool = True) -> dict[str, Any]:
        """The options that were read last, as in config.yaml; without ``defaults`` only those with another value."""
        assert self._cli is not None
        command = self._cli.config.subcommand
        return stated(self._cli._parser(command), self._cli.config[command], defaults)


class _Reader(PriorCLI):
    """Reads arguments and builds nothing."""

    def requeued(self, run: Any) -> Path | None:
        return None  # a sweep resumes its runs itself, and a hash is that of the config

    def _set_seed(self) -> None:
        pass

    def instantiate_classes(self) -> None:
        pass

    def _run_subcommand(self, subcommand: str) -> None:
        pass


class BenchmarkReader:
    """Reads the options of ``benchmark``."""

    def __init__(self) -> None:
        self._parser: Any = None
        self._options: Any = None

    def read(self, words: list[str]) -> Any:
        """All options of ``benchmark ...``, defaults included.

        Raises:
            ValueError: The command would refuse these arguments.
        """
        self._parser = self._parser or build_parser()
        with exit_as_error():
            self._options = self._parser.parse_args(words[1:])
        return self._options

    def stated(self, defaults: bool = True) -> dict[str, Any]:
        """The options that were read last, as in a config; without ``defaults`` only those with another value."""
        return stated(self._parser, self._options, defaults)


def stated(parser: Any, options: Any, defaults: bool) -> dict[str, Any]:
    return yaml.safe_load(parser.dump(options, skip_none=False, skip_default=not defaults)) or {}
