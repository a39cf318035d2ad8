"""Progress of `embed`: a bar on a terminal, otherwise one line per shard."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from eclipse_pl.data.manifest import ShardEntry
from eclipse_pl.raw.reasons import by_kind
from eclipse_pl.raw.source import Part


def left_out(entries: Sequence[ShardEntry]) -> str:
    """Describe the content of the sources that became no pair."""
    skipped = [pair for entry in entries for pair in entry.skipped]
    others = sum(entry.others for entry in entries)
    counts = f", {len(skipped):,} skipped ({by_kind(skipped)})" if skipped else ""
    return counts + (f", {others:,} expected other files" if others else "")


class EmbedProgress:
    """Shows pairs per second, finished shards and the remaining time.

    The bar counts what the parts count: bytes of tars, images of lists. If one of them is unknown, it counts shards.
    """

    def __init__(self, parts: dict[str, Part], finished: int) -> None:
        self.console = Console(highlight=False)
        known = {name: size for name, part in parts.items() if (size := part.size) is not None}
        self.by_size = len(known) == len(parts)
        self.sizes = known if self.by_size else dict.fromkeys(parts, 1)
        self.finished, self.shards = finished, finished + len(parts)
        self.before = self.pairs = 0
        self.noted = False
        self.started = time.perf_counter()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]:,.0f} pairs/s,"),
            TimeRemainingColumn(),
            TextColumn("left"),
        )
        self.bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self.task = self.bar.add_task(self.title, total=sum(self.sizes.values()), rate=0.0)

    @property
    def title(self) -> str:
        return f"embedding, {self.finished} of {self.shards} shards"

    @property
    def rate(self) -> float:
        return self.pairs / max(time.perf_counter() - self.started, 1e-9)

    def batch(self, pairs: int, position: int) -> None:
        """Count ``pairs`` more embedded pairs. The part was read up to ``position``."""
        self.pairs += pairs
        self.bar.update(self.task, completed=self.before + position * self.by_size, rate=self.rate, description=self.title)

    def note(self, activity: str) -> None:
        """Show an activity other than embedding, until the next batch. Without a terminal only the first one is printed."""
        self.bar.update(self.task, description=activity)
        if not (self.noted or self.console.is_terminal):
            self.console.print(activity, soft_wrap=True, markup=False)
        self.noted = True

    def source_done(self, name: str, entry: ShardEntry | None) -> None:
        """Count a finished source. Its entry is None where it gave no shard."""
        self.before += self.sizes[name]
        self.finished += entry is not None
        self.bar.update(self.task, completed=self.before, description=self.title)
        if entry is not None and not self.console.is_terminal:
            done = f"{self.finished} of {self.shards} shards, {self.rate:,.0f} pairs/s"
            line = f"{name}: {entry.pairs} pairs{left_out([entry])}; {done}"
            self.console.print(line, soft_wrap=True, markup=False)

    def __enter__(self) -> EmbedProgress:
        self.bar.start()
        self.started = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()
