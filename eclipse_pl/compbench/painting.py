from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from eclipse_pl.atomic import write_atomically
from eclipse_pl.compbench.unit import Unit, blocks
from eclipse_pl.painters.painter import Painter
from eclipse_pl.ranks import Ranks

Step = Callable[[int], None]
"""Called with the number of units that were done."""


def paint_units(units: Sequence[Unit], painter: Painter, folder: Path, ranks: Ranks, size: int, step: Step) -> None:
    """Paint what is not painted yet of this rank's blocks. A picture is a whole file or none."""
    mine = [block for number, block in blocks(units, size) if ranks.owns(number)]
    todo = [block for block in mine if not all((folder / unit.file).is_file() for unit in block)]
    painter.prepare([unit.prompt for block in todo for unit in block])
    step(sum(map(len, mine)) - sum(map(len, todo)))
    for block in todo:
        images = painter.paint([unit.prompt for unit in block], [unit.seed for unit in block])
        for unit, image in zip(block, images, strict=True):
            write_picture(folder / unit.file, image)
        step(len(block))


def write_picture(path: Path, image: Image.Image) -> None:
    """As PNG; atomic."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    image.save(content, "PNG")
    write_atomically(path, content.getvalue())
