"""``python -m tests.helpers.adapter_speed``: what a batch of embeddings costs IPAdapterDecoder, beside the stock pipeline.

Both generate 8 images at a time with the same tiny pipeline on a CPU: ours of 8 embeddings, the stock pipeline of one with
``num_images_per_prompt=8``, which is all that it can do without mixing embeddings.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from diffusers import StableDiffusionPipeline

from eclipse_pl.decoders.ip_adapter import IPAdapterDecoder
from tests.helpers.pipelines import ip_adapter, stable_diffusion_1_5

IMAGES, STEPS, ROUNDS = 8, 10, 9


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        measure(Path(temporary))


def measure(place: Path) -> None:
    folder = stable_diffusion_1_5(place / "pipeline")
    ip_adapter(place / "adapter.safetensors", folder)
    decoder = IPAdapterDecoder(str(folder), str(place), "adapter.safetensors", "tiny", steps=STEPS, device="cpu")
    stock = StableDiffusionPipeline.from_pretrained(folder)
    stock.load_ip_adapter(str(place), "", "adapter.safetensors", image_encoder_folder=None)
    stock.set_progress_bar_config(disable=True)
    embeds = torch.randn(IMAGES, decoder.dim)
    pair = torch.stack([torch.zeros(decoder.dim), embeds[0]])[:, None]

    def ours() -> None:
        decoder.decode(embeds)

    def theirs() -> None:
        generators = [torch.Generator().manual_seed(seed) for seed in range(IMAGES)]
        stock(
            "",
            negative_prompt="",
            num_images_per_prompt=IMAGES,
            ip_adapter_image_embeds=[pair],
            num_inference_steps=STEPS,
            guidance_scale=decoder.guidance,
            generator=generators,
        )

    seconds: dict[str, list[float]] = {"ours": [], "stock": []}
    ours(), theirs()
    for _ in range(ROUNDS):  # in turns, so that a machine that slows down slows both
        for name, run in (("ours", ours), ("stock", theirs)):
            begun = perf_counter()
            run()
            seconds[name].append(perf_counter() - begun)
    mine, peer = median(seconds["ours"]), median(seconds["stock"])
    print(f"{IMAGES} images of {STEPS} steps: {mine:.3f} s; stock {peer:.3f} s; ratio {mine / peer:.3f}")


if __name__ == "__main__":
    main()
