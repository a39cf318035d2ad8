"""Timings of the data's path: training batches from shards, and shards from images."""

from __future__ import annotations

import mmap
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import torch

from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.speed.inputs import write_images, write_shards
from eclipse_pl.speed.slow_server import slow_server
from eclipse_pl.speed.timing import Timing, in_turns


def loader(
    folder: Path, shards: int, records: int, chunk: int, dim: int, batch_size: int, device: torch.device
) -> list[Timing]:
    """Time an epoch with one worker and files in the page cache. The temporary files take 1.6 GB by default.

    The peer reads each file into new memory. The peer of the row of one buffer reads all files into it, which is a bound: a
    program that uses its data cannot do so. On a GPU there is a row of batches that are copied to it, beside the same batches
    on the host.
    """
    entries = write_shards(folder, shards, records, chunk, dim)
    data = EmbeddingDataModule(str(folder), batch_size=batch_size, workers=1)
    batches = data.train_dataloader()

    def epoch() -> None:
        for _ in batches:
            pass

    def read() -> None:
        for entry in entries:
            with open(folder / entry.name, "rb", buffering=0) as file, mmap.mmap(-1, entry.bytes) as memory:
                file.readinto(memory)

    buffer = bytearray(max(entry.bytes for entry in entries))

    def read_into_buffer() -> None:
        for entry in entries:
            with open(folder / entry.name, "rb", buffering=0) as file:
                file.readinto(buffer)

    ours, peer, buffered = in_turns([epoch, read, read_into_buffer], torch.device("cpu"), repetitions=5)
    more = [copied(data, epoch, device)] if device.type == "cuda" else []
    data.teardown("fit")
    given, stored = len(batches) * batch_size, shards * records * chunk
    size = sum(entry.bytes for entry in entries)
    rate = size * given / stored / ours / 1e6
    return [
        Timing("loader", given / ours, stored / peer, "pairs/s"),
        Timing("loader/bytes", rate, size / peer / 1e6, "MB/s"),
        Timing("loader/bytes/one-buffer", rate, size / buffered / 1e6, "MB/s"),
        *more,
    ]


def copied(data: EmbeddingDataModule, epoch: Callable[[], None], device: torch.device) -> Timing:
    """Time an epoch of batches that are copied to a GPU, beside ``epoch``, the same batches on the host."""
    from eclipse_pl.data.copies import Copies
    from eclipse_pl.data.loader import Position, TrainingLoader

    order = data.training_order(1)
    batches = TrainingLoader(data.shards, order, Position(), workers=1, pin_memory=True, copies=Copies(device))
    ours, peer = in_turns([lambda: deque(batches, maxlen=0), epoch], device)
    batches.close()
    pairs = len(order) * data.batch_size
    return Timing("loader/copied", pairs / ours, pairs / peer, "pairs/s")


def remote(
    folder: Path, shards: int, records: int, chunk: int, dim: int, batch_size: int, rate: float = 50e6, latency: float = 0.02
) -> list[Timing]:
    """Time epochs of shards behind a URL with one worker: the first one downloads them, later ones read the cache.

    The server sends ``rate`` bytes a second, ``latency`` seconds after each request. The peer of the first row is this rate,
    that of the second the same epoch from the local folder.
    """
    stored = folder / "set"
    stored.mkdir()
    size = sum(entry.bytes for entry in write_shards(stored, shards, records, chunk, dim))

    def epoch_of(source: str, **options: str) -> Callable[[], float]:
        data = EmbeddingDataModule(source, batch_size=batch_size, workers=1, **options)  # type: ignore[arg-type]
        batches = data.train_dataloader()
        loaders.append(data)

        def epoch() -> float:
            start = time.perf_counter()
            for _ in batches:
                pass
            return time.perf_counter() - start

        return epoch

    loaders: list[EmbeddingDataModule] = []
    with slow_server(stored, rate, latency) as url:
        warm = epoch_of(url, cache=str(folder / "cache"))
        first = warm()
        ours, peer = in_turns([warm, epoch_of(str(stored))], torch.device("cpu"), repetitions=7)
        for data in loaders:
            data.teardown("fit")
    given = shards * records * chunk // batch_size * batch_size
    return [
        Timing("remote/cold", size / first / 1e6, rate / 1e6, "MB/s"),
        Timing("remote/warm", given / ours, given / peer, "pairs/s"),
    ]


def embed(folder: Path, encoder: OpenClipEncoder, pairs: int, batch_size: int = 32, workers: int = 1) -> list[Timing]:
    """Time a tar of 256-pixel JPEGs -> shards with ``workers`` that decode, against both towers of open_clip on ready tensors.

    open_clip's text tower computes all 77 tokens, and the encoder only those of the longest caption in a batch. The peer of
    the second row is the encoder's own forward pass, and shows the cost of decoding and writing.
    """
    from eclipse_pl.embed.embed_shards import embed_shards
    from eclipse_pl.raw.find_sources import find_sources

    device = encoder.device
    captions = write_images(folder / "0000.tar", pairs)
    pixels = torch.randn(batch_size, 3, encoder.image_size, encoder.image_size, device=device)
    batches = [encoder.tokenize(captions[first : first + batch_size]) for first in range(0, pairs, batch_size)]

    @torch.inference_mode()
    def bare() -> None:
        with torch.autocast(device.type, encoder.precision, enabled=encoder.precision != torch.float32):
            for tokens in batches:
                encoder.model.encode_image(pixels[: len(tokens.ids)])
                encoder.model.encode_text(tokens.ids.to(device))

    @torch.inference_mode()
    def own_forward() -> None:
        for tokens in batches:
            encoder.encode_images(pixels[: len(tokens.ids)])
            encoder.encode_tokens(tokens)

    sources = find_sources([str(folder / "0000.tar")])

    def ours() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            made_by = "python -m eclipse_pl speed"
            embed_shards(sources, encoder, out, made_by, batch_size=batch_size, workers=workers)

    seconds, peer, own = in_turns([ours, bare, own_forward], device)
    return [
        Timing("embed", pairs / seconds, pairs / peer, "pairs/s"),
        Timing("embed/own-forward", pairs / seconds, pairs / own, "pairs/s"),
    ]
