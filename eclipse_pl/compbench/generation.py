from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from eclipse_pl.compbench.ranks import Ranks
from eclipse_pl.compbench.unit import Unit, blocks
from eclipse_pl.files import atomic_path
from eclipse_pl.text_to_image.text_to_image import TextToImage

Step = Callable[[int], None]
"""Called with the number of finished units."""


def generate_units(
    units: Sequence[Unit], text_to_image: TextToImage, folder: Path, ranks: Ranks, size: int, step: Step
) -> None:
    """Generate this rank's unfinished blocks. Writes are atomic."""
    mine = [block for number, block in blocks(units, size) if ranks.owns(number)]
    todo = [block for block in mine if not all((folder / unit.file).is_file() for unit in block)]
    text_to_image.prepare([unit.prompt for block in todo for unit in block])
    step(sum(map(len, mine)) - sum(map(len, todo)))
    for block in todo:
        images = text_to_image.generate([unit.prompt for unit in block], [unit.seed for unit in block])
        for unit, image in zip(block, images, strict=True):
            write_image(folder / unit.file, image)
        step(len(block))


def write_image(path: Path, image: Image.Image) -> None:
    """Write a PNG atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial:
        image.save(partial, "PNG")


@contextmanager
def bar(text: str, total: int, ranks: Ranks, shown: bool) -> Iterator[Step]:
    """Show a progress bar that counts each block of the first rank once for every rank."""
    if not (shown and ranks.is_first):
        yield lambda done: None
        return
    from rich.progress import Progress

    with Progress(transient=False) as progress:
        task = progress.add_task(text, total=total)
        yield lambda done: progress.advance(task, done * ranks.count)
        progress.update(task, completed=total)
