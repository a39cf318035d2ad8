"""Space: the files that make a published folder run as a hosted demo."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from eclipse_pl import __version__
from eclipse_pl.loading import DECODERS, is_local_clip
from eclipse_pl.publish.card import ModelCard

APP = '''"""The live demo of this prior. A hosted Space runs this file; so does `python app.py`."""

import os
from pathlib import Path

from eclipse_pl.demo.command import main

# a Space listens on all addresses of its machine, and has no shards whose images it could show
port = os.environ.get("GRADIO_SERVER_PORT", "7860")
main(["--prior", str(Path(__file__).parent), "--names", {names!r}, "--host", "0.0.0.0", "--port", port, "--real_images", "0"])
'''


def require_space(card: ModelCard, to: str, repository: str | None) -> None:
    """Check what a Space needs, before anything is written.

    Raises:
        ValueError: The target is a repository of models, gradio is missing, the prior's CLIP is a local one, or no decoder is
            known for its space.
    """
    if repository is not None:
        raise ValueError(
            f"--demo writes a folder, and --to {to} is a repository of models. Write --to ./FOLDER, then "
            f"`hf upload {repository} FOLDER --repo-type space`."
        )
    sdk_version()
    if is_local_clip(card.space["encoder"]):
        raise ValueError(f"--demo needs a CLIP that others can load, and that of {card.space['name']} is a local one.")
    if card.space["name"] not in DECODERS:
        raise ValueError(
            f"--demo needs a decoder, and none is known for {card.space['name']}; known are {', '.join(DECODERS)}."
        )


def sdk_version() -> str:
    """The gradio of this machine, with which the demo was tried.

    Raises:
        ValueError: There is none.
    """
    try:
        return version("gradio")
    except PackageNotFoundError as error:
        raise ValueError("--demo needs gradio, which is not installed: pip install eclipse_pl[demo].") from error


def write_space(card: ModelCard, folder: Path) -> None:
    """Write ``app.py`` and ``requirements.txt`` into a published folder, and a Space's fields into its README.md."""
    (folder / "app.py").write_text(APP.format(names=json.dumps([card.title])), encoding="utf-8")
    (folder / "requirements.txt").write_text(f"eclipse_pl[demo]=={__version__}\n", encoding="utf-8")
    readme = folder / "README.md"
    _, front, text = readme.read_text(encoding="utf-8").split("---\n", 2)
    fields: dict[str, Any] = {
        "title": card.title,
        "sdk": "gradio",
        "sdk_version": sdk_version(),
        "app_file": "app.py",
        **yaml.safe_load(front),
    }
    readme.write_text(f"---\n{yaml.safe_dump(fields, sort_keys=False)}---\n{text}", encoding="utf-8")
