"""Copies ahead of use: their order, the position of the run, and errors, with streams that only note what is asked of them."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from eclipse_pl.data.copies import Copies, tensors_of
from eclipse_pl.data.loader import Position, TrainingLoader
from eclipse_pl.data.sampler import SplitPairs, TrainingOrder
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.embedding import EmbeddingBatch
from tests.helpers.shard_sets import make_shard_set
from tests.test_eclipse import tiny_batch


class Notes:
    """In place of ``torch.cuda``: one list of all that happens, in its order."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.streams = 0
        self.events: list[Event] = []

    def Stream(self, device: torch.device) -> Stream:
        self.streams += 1
        return Stream(f"side {self.streams}", self)

    def current_stream(self, device: torch.device) -> Stream:
        return Stream("steps", self)

    def Event(self) -> Event:
        self.events.append(Event(len(self.events) + 1, self))
        return self.events[-1]

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        self.notes.append(f"on {stream.name}")
        yield
        self.notes.append(f"off {stream.name}")


class Stream:
    def __init__(self, name: str, cuda: Notes) -> None:
        self.name, self.cuda = name, cuda

    def wait_event(self, event: Event) -> None:
        self.cuda.notes.append(f"{self.name} waits for copy {event.number}")


class Event:
    def __init__(self, number: int, cuda: Notes) -> None:
        self.number, self.cuda = number, cuda
        self.ended = False

    def record(self, stream: Stream) -> None:
        self.cuda.notes.append(f"copy {self.number} on {stream.name}")

    def query(self) -> bool:
        return self.ended


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Notes:
    noted = Notes()
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: noted.notes.append(f"kept for {stream.name}"))
    return noted


def test_a_copy_begins_before_the_batch_before_it_is_handed_out(cuda: Notes) -> None:
    handed = []
    for number, batch in enumerate(Copies(torch.device("cpu"), cuda).ahead(iter([tiny_batch() for _ in range(3)]))):
        cuda.notes.append(f"step {number}")
        handed.append(batch)
    told = [note for note in cuda.notes if not note.startswith(("on", "off", "kept"))]
    assert told == [
        *("copy 1 on side 1", "copy 2 on side 1", "steps waits for copy 1", "step 0"),
        *("copy 3 on side 1", "steps waits for copy 2", "step 1", "steps waits for copy 3", "step 2"),
    ]
    assert cuda.notes.count("kept for steps") == sum(len(tensors_of(batch)) for batch in handed)
    assert {tensor.dtype for tensor in tensors_of(handed[0])} == {torch.float32, torch.int64}


def test_every_tensor_of_a_batch_is_kept() -> None:
    batch = tiny_batch()
    names = {id(tensor) for tensor in tensors_of(batch)}
    mine = (batch.image_embed, batch.index, batch.text.text_embed, batch.text.text_states, batch.text.lengths)
    assert all(id(tensor) in names for tensor in mine)


def test_memory_is_held_until_its_copy_is_done(cuda: Notes) -> None:
    pinned: list[weakref.ref[EmbeddingBatch]] = []

    def batches() -> Iterator[EmbeddingBatch]:
        for _ in range(4):
            batch = tiny_batch()
            pinned.append(weakref.ref(batch))
            yield batch
            del batch

    ahead = Copies(torch.device("cpu"), cuda).ahead(batches())
    for _ in range(3):
        next(ahead)
    assert pinned[0]() is not None
    cuda.events[0].ended = True
    next(ahead)
    assert pinned[0]() is None and pinned[1]() is not None


def test_an_error_comes_in_the_place_of_its_batch(cuda: Notes) -> None:
    def batches() -> Iterator[EmbeddingBatch]:
        yield tiny_batch()
        yield tiny_batch()
        raise ValueError("0003.tar is damaged")

    ahead = Copies(torch.device("cpu"), cuda).ahead(batches())
    assert next(ahead) is not None and next(ahead) is not None
    with pytest.raises(ValueError, match=r"0003\.tar is damaged"):
        next(ahead)


@pytest.mark.parametrize("handed", [1, 3, 8, 11])
def test_the_position_counts_batches_that_were_handed_out(tmp_path: Path, cuda: Notes, handed: int) -> None:
    """And the batches are those without copies, over the end of an epoch of 8."""
    shards = ShardSet(str(make_shard_set(tmp_path / "shards", pairs=64)))

    def loader(position: Position, copies: Copies | None) -> TrainingLoader:
        records = shards.records("train")
        pairs = SplitPairs(shards.record_starts, records, shards.lengths, None)
        return TrainingLoader(shards, TrainingOrder(pairs, 8, 1, 2, 0, True, None), position, copies=copies)

    def run(loader: TrainingLoader, count: int) -> list[Any]:
        seen: list[Any] = []
        while len(seen) < count:
            for batch in loader:
                seen.append(batch.index.tolist())
                if len(seen) == count:
                    break
        return seen

    copied, plain = loader(Position(), Copies(torch.device("cpu"), cuda)), loader(Position(), None)
    assert run(copied, handed) == run(plain, handed)
    assert copied.position == plain.position == Position(handed // 8, handed % 8)
    assert run(loader(copied.position, None), 3) == run(loader(plain.position, None), 3)
