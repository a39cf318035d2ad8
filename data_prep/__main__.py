"""``python -m data_prep <command>``: one table from command to function, each imported when it is used."""

from __future__ import annotations

import sys
from importlib import import_module

from eclipse_pl.command_line import no_command

COMMANDS = {
    "world": "data_prep.world",
    "world-models": "data_prep.world_models.command",
    "plan": "data_prep.plan",
    "embed": "data_prep.embed",
    "verify": "data_prep.verify",
    "import-embeddings": "data_prep.import_embeddings",
    "merge": "data_prep.merge",
    "distill": "data_prep.distill",
    "prompts": "data_prep.prompts",
}


def main(args: list[str] | None = None) -> int:
    """Run one command; 2 and one line on stderr for whatever the user can put right."""
    command, *rest = (sys.argv[1:] if args is None else args) or ["--help"]
    if command in ("-h", "--help"):
        print(f"usage: python -m data_prep <{'|'.join(COMMANDS)}> [options]\n\n{_summaries()}")
        return 0
    if command not in COMMANDS:
        print(f"error: {no_command(command, COMMANDS)}", file=sys.stderr)
        return 2
    try:
        import_module(COMMANDS[command]).main(rest)
    except (ValueError, OSError) as error:  # OSError: a full disk, a folder that must not be written
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 2)
    except KeyboardInterrupt:
        print("stopped; finished work stays, and the same command resumes after it", file=sys.stderr)
        return 130
    return 0


def _summaries() -> str:
    """The first line of every command's file, without importing it."""
    from importlib.util import find_spec
    from pathlib import Path

    lines = []
    for command, module in COMMANDS.items():
        spec = find_spec(module)
        first = Path(spec.origin).read_text(encoding="utf-8").splitlines()[0] if spec and spec.origin else ""
        summary = first.strip('"').split(": ", 1)[-1]
        lines.append(f"  {command:18s} {summary}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
