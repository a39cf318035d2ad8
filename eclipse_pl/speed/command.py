"""``python -m eclipse_pl speed``: what this machine makes of training step, loader and encoder, each beside its peer.

    step      one training step of `PriorNetwork`, against diffusers' ``PriorTransformer`` with the same weights and batch
    loader    an epoch of training batches, against reading the same files one after another into memory
    embed     `embed_shards` on JPEG images, against the bare forward pass of the same model on ready tensors
    blip-vqa  eight questions about an image by `BlipVqa`, against a full pass of the same model for every question

Ours and the peer take turns, and medians are compared, so that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import mmap
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from eclipse_pl.arguments import answer_in_one_sentence
from eclipse_pl.device import describe_machine, find_device
from eclipse_pl.embedding import TextCondition
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.files import write_json
from eclipse_pl.speed.inputs import CONTEXT, draw_lengths, write_images, write_shards
from eclipse_pl.speed.row import Row, in_turns, training_step


def main(args: list[str] | None = None) -> None:
    """Measure, print the table, and write it with ``--json``."""
    parser = argparse.ArgumentParser(
        prog="python -m eclipse_pl speed", description="Measure this machine; about seven minutes on two idle cores."
    )
    parser.add_argument("--only", default=",".join(MEASUREMENTS), help=f"some of {','.join(MEASUREMENTS)} (default: all)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the rows there too, each with this machine beside it")
    parser.add_argument("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda")
    answer_in_one_sentence(parser, args)
    options = parser.parse_args(args)
    chosen = options.only.split(",")
    if unknown := [name for name in chosen if name not in MEASUREMENTS]:
        raise ValueError(f"--only {','.join(unknown)} is not a measurement; choose among {', '.join(MEASUREMENTS)}.")
    if options.json and not options.json.absolute().parent.is_dir():
        raise ValueError(f"--json {options.json}: there is no folder {options.json.absolute().parent}. Create it first.")
    device = find_device(options.device)
    rows = [row for name in chosen for row in MEASUREMENTS[name](device)]
    machine = describe_machine(device)
    print_table(rows, machine)
    if options.json:
        write_json(options.json, [{**asdict(row), "ratio": row.ratio, "machine": machine} for row in rows])


def step_rows(device: torch.device) -> list[Row]:
    return [
        row
        for name, dim in (("ViT-L-14", 768), ("ViT-bigG-14", 1280))
        for row in step(f"step/{name}", dim, device, captions=64, layers=10, heads=16, head_dim=32)
    ]


def step(name: str, dim: int, device: torch.device, captions: int, layers: int, heads: int, head_dim: int) -> list[Row]:
    """Forward pass, squared error, backward pass and AdamW, in float32, in milliseconds.

    Both have the time token, which diffusers' class cannot leave out. Padding for diffusers is done before the clock runs.
    The second row is the same network fed captions of 77 tokens: what is gained by the padding alone is the difference.
    """
    from diffusers import PriorTransformer

    from eclipse_pl.priors.network import PriorNetwork

    torch.manual_seed(0)
    ours = PriorNetwork(dim, dim, CONTEXT, layers, heads, head_dim, time_embedding=True).to(device)
    peer = PriorTransformer(heads, head_dim, layers, dim).to(device)
    peer.load_state_dict(ours.state_dict())
    for statistic in (peer.clip_mean, peer.clip_std):
        statistic.requires_grad_(False)

    lengths = draw_lengths(captions).to(device)
    text = TextCondition(
        torch.randn(captions, dim, device=device), torch.randn(int(lengths.sum()), dim, device=device), lengths
    )
    mask = torch.arange(CONTEXT, device=device) < lengths[:, None]
    states = torch.zeros(captions, CONTEXT, dim, device=device).index_put((mask,), text.text_states)
    full = TextCondition(text.text_embed, states.flatten(0, 1), torch.full_like(lengths, CONTEXT))
    noise, image_embed = torch.randn(2, captions, dim, device=device)
    diffusion_step = torch.randint(0, 1000, (captions,), device=device)

    def peer_forward() -> Tensor:
        predicted: Tensor = peer(noise, diffusion_step, text.text_embed, states, mask).predicted_image_embedding
        return predicted

    packed, padded, reference = in_turns(
        [
            training_step(ours, lambda: F.mse_loss(ours(noise, text, diffusion_step), image_embed)),
            training_step(ours, lambda: F.mse_loss(ours(noise, full, diffusion_step), image_embed)),
            training_step(peer, lambda: F.mse_loss(peer_forward(), image_embed)),
        ],
        device,
    )
    return [
        Row(name, 1e3 * packed, 1e3 * reference, "ms"),
        Row(f"{name}/padded-{CONTEXT}", 1e3 * padded, 1e3 * reference, "ms"),
    ]


def diffusion_rows(device: torch.device) -> list[Row]:
    from eclipse_pl.speed.priors import diffusion_step, sampling

    captions = 8 if device.type == "cpu" else 64
    return [
        *diffusion_step("diffusion/step/ViT-L-14", 768, device, captions=64),
        *sampling("diffusion/sample/ViT-L-14", 768, device, captions=captions),
    ]


def loader_rows(device: torch.device) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="eclipse_pl_speed_") as folder:
        return loader(Path(folder), shards=8, records=8, chunk=1024, dim=768, batch_size=1024)


def loader(folder: Path, shards: int, records: int, chunk: int, dim: int, batch_size: int) -> list[Row]:
    """An epoch with one worker, files in the page cache for both. Files are temporary (1.6 GB by default).

    The peer reads each file whole into memory that the system gives for it, whatever was freed in this process before. That of
    the last row reads into one buffer over and over, which no program that uses what it read can do: a bound.
    """
    from eclipse_pl.data.datamodule import EmbeddingDataModule

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
    data.teardown("fit")
    given, stored = len(batches) * batch_size, shards * records * chunk
    size = sum(entry.bytes for entry in entries)
    rate = size * given / stored / ours / 1e6
    return [
        Row("loader", given / ours, stored / peer, "pairs/s"),
        Row("loader/bytes", rate, size / peer / 1e6, "MB/s"),
        Row("loader/bytes/one-buffer", rate, size / buffered / 1e6, "MB/s"),
    ]


def embed_rows(device: torch.device) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="eclipse_pl_speed_") as folder:
        encoder = OpenClipEncoder("ViT-B-32", pretrained="random", device=str(device))
        encoder.place()
        return embed(Path(folder), encoder, pairs=128 if device.type == "cpu" else 20_000)


def embed(folder: Path, encoder: OpenClipEncoder, pairs: int, batch_size: int = 32) -> list[Row]:
    """Tar of 256-pixel JPEGs to finished shards with one worker, against both towers of open_clip on ready tensors.

    open_clip's text tower computes all 77 tokens and the encoder only those of the longest caption in a batch; the peer of
    the second row is the encoder's own forward pass, so that this gain does not hide what decoding and writing cost.
    """
    from eclipse_pl.embed.embed_shards import embed_shards

    device = encoder.device
    captions = write_images(folder / "0000.tar", pairs)
    size = encoder.image_size
    pixels = torch.randn(batch_size, 3, size, size, device=device)
    batches = [encoder.tokenize(captions[first : first + batch_size]) for first in range(0, pairs, batch_size)]

    @torch.inference_mode()
    def bare() -> None:
        for tokens in batches:
            encoder.model.encode_image(pixels[: len(tokens.ids)])
            encoder.model.encode_text(tokens.ids.to(device))

    @torch.inference_mode()
    def own_forward() -> None:
        for tokens in batches:
            encoder.encode_images(pixels[: len(tokens.ids)])
            encoder.encode_tokens(tokens)

    def ours() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            embed_shards([str(folder / "0000.tar")], encoder, out, "python -m eclipse_pl speed", batch_size=batch_size)

    seconds, peer, own = in_turns([ours, bare, own_forward], device)
    return [
        Row("embed", pairs / seconds, pairs / peer, "pairs/s"),
        Row("embed/own-forward", pairs / seconds, pairs / own, "pairs/s"),
    ]


def scorer_rows(device: torch.device) -> list[Row]:
    from eclipse_pl.speed.scorers import blip_vqa_rows

    return blip_vqa_rows(device)


def print_table(rows: Sequence[Row], machine: dict[str, str | int]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Speed", caption=", ".join(f"{key} {value}" for key, value in machine.items()))
    for column in ("", "ours", "peer", "unit", "times as fast"):
        table.add_column(column, justify="left" if column in ("", "unit") else "right")
    for row in rows:
        table.add_row(row.name, f"{row.ours:,.1f}", f"{row.peer:,.1f}", row.unit, f"{row.ratio:.2f}")
    Console().print(table)


MEASUREMENTS = {
    "step": step_rows,
    "diffusion": diffusion_rows,
    "loader": loader_rows,
    "embed": embed_rows,
    "blip-vqa": scorer_rows,
}
