"""A part of an experiment as an object: a decoder, an encoder, a protocol, a text-to-image model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eclipse_pl.command_line import exit_as_error, sentence_parser
from eclipse_pl.compbench.compbench import CompBench
from eclipse_pl.decoders.decoder import Decoder
from eclipse_pl.dotted_keys import flat
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.priors.checkpoint import read_config
from eclipse_pl.priors.named_class import named_class
from eclipse_pl.text_to_image.text_to_image import TextToImage

KINDS: tuple[type, ...] = (Decoder, Encoder, CompBench, TextToImage)
"""Base classes of what a notebook loads so. A file may come from somebody else, so no other class is imported."""


def load_part(path: str | Path, **options: Any) -> Any:
    """The object that a part of an experiment describes: a decoder, an encoder, a protocol or a text-to-image model.

    Args:
        path: The part, such as ``experiments/parts/decoder/karlo.yaml``.
        **options: Arguments of its class, instead of those in the file; of a part in it as nested dictionaries. A path or a
            device may be an object.

    Raises:
        ValueError: There is no such file, it names no class of these kinds, or the class refuses its arguments.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"There is no part {path}. The parts of the package are below experiments/parts.")
    class_path = read_config(path).get("class_path")
    if not isinstance(class_path, str):
        raise ValueError(f"{path} is no part of one class: it has no class_path.")
    try:
        kind: type = named_class(class_path, KINDS, str(path))
    except ValueError as error:
        raise ValueError(f"There is no class {class_path} that can be loaded so: {error}") from error
    changes = [f"--part.init_args.{name}={typed(value)}" for name, value in flat(options).items()] if options else []
    parser = sentence_parser()()
    with exit_as_error():
        parser.add_argument("--part", type=kind, enable_path=True)
        return parser.instantiate(parser.parse_args([f"--part={path}", *changes])).part


def typed(value: Any) -> str:
    """A value as one types it on a command line, where a text has no quotes."""
    is_data = value is None or isinstance(value, bool | int | float | list | tuple | dict)
    return json.dumps(value, default=str) if is_data else str(value)
