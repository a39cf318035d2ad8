from __future__ import annotations

import errno
import importlib
import os
import sys

from eclipse_pl.command_line import no_command
from eclipse_pl.problems import reason_of

COMMANDS = {
    "init": ("eclipse_pl.commands.init", "a folder with a copy of the experiments to work in: init FOLDER"),
    "fit": ("eclipse_pl.cli", "train a prior: fit --config experiments/quickstart.yaml"),
    "validate": ("eclipse_pl.cli", "latent metrics on the validation split: validate --config EXP --ckpt_path RUN"),
    "test": ("eclipse_pl.cli", "the same on the test split"),
    "import": (
        "eclipse_pl.commands.import_prior",
        "a released prior as a run: import --weights FOLDER --data SHARDS --experiment NAME",
    ),
    "export": ("eclipse_pl.commands.export", "a prior for diffusers' pipelines: export --prior RUN --out FOLDER"),
    "publish": (
        "eclipse_pl.publish.command",
        "a prior with a model card, for the hub: publish --prior RUN --to USER/NAME --license mit",
    ),
    "demo": (
        "eclipse_pl.demo.command",
        "a web page for prompts and their images: demo --prior RUN --decoder FILE",
    ),
    "sample": ("eclipse_pl.commands.sample", "image embeddings of prompts: sample --prior RUN --prompt P"),
    "sweep": (
        "eclipse_pl.sweeps.command",
        "many runs of a Weights & Biases sweep file: sweep experiments/sweeps/lambda_world.yaml",
    ),
    "benchmark": (
        "eclipse_pl.commands.benchmark",
        "score a prior or any text-to-image pipeline: benchmark --prior RUN --protocol FILE",
    ),
    "nearest": (
        "eclipse_pl.commands.nearest",
        "the images nearest to a prior's prediction: nearest --prior RUN --prompt P",
    ),
    "compare": (
        "eclipse_pl.reports.compare",
        "runs and benchmarks in common tables: compare runs/quickstart runs/projection_world",
    ),
    "speed": ("eclipse_pl.speed.command", "measure training step, loader and encoder on this machine"),
}

WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Refusals of the machine to write: full disks, quotas, folders that are only read."""
PLACES = (errno.EACCES, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)
"""Paths of the user that do not fit: no permission, a file in place of a folder, or the reverse."""


def main(args: list[str] | None = None) -> int:
    """Run one command. A mistake of the user becomes one sentence and exit code 2."""
    args = sys.argv[1:] if args is None else args
    if not args or args[0] in ("-h", "--help"):
        print("usage: python -m eclipse_pl COMMAND ...\n")
        for command, (_, purpose) in COMMANDS.items():
            print(f"  {command:10} {purpose}")
        print("\n`python -m eclipse_pl COMMAND --help` lists the options of a command.")
        return 0
    if args[0] not in COMMANDS:
        print(f"error: {no_command(args[0], COMMANDS)}", file=sys.stderr)
        return 2
    module, _ = COMMANDS[args[0]]
    try:
        command = importlib.import_module(module).main
        # the Lightning commands share one parser, which wants their name
        command(args if module == "eclipse_pl.cli" else args[1:])
    except KeyboardInterrupt as stop:  # outside of training, which has an ending of its own
        print(str(stop) or "stopped; the same command continues after what is finished, or starts again", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the output, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except ValueError as error:
        print(f"error: {reason_of(error)}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (*WRITING, *PLACES):
            raise
        path = error.filename2 or error.filename  # of a copy, the second is the one that is written
        where = f" ({path})" if path else ""
        problem = f"cannot write: {error.strerror}{where}" if error.errno in WRITING else f"{error.strerror}{where}"
        whole = " Checkpoints written before are whole." if args[0] == "fit" else ""
        print(f"error: {problem}.{whole}", file=sys.stderr)
        return 2
    return 0


def console() -> int:
    """``eclipse_pl`` finds modules of the working folder as ``python -m eclipse_pl`` does: a prior in a file of one's own."""
    if not getattr(sys.flags, "safe_path", False):  # Python 3.11
        sys.path.insert(0, os.getcwd())
    return main()


if __name__ == "__main__":
    sys.exit(main())
