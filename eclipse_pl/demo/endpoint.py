"""The demo's endpoint for programs: one call, one image."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from eclipse_pl.demo.answer import png_of
from eclipse_pl.demo.batcher import Batcher
from eclipse_pl.demo.request import Request, whole

NAME = "generate"


def add_endpoint(batcher: Batcher) -> None:
    """Add ``/generate`` to the blocks that are being built. Calls that come together are answered together."""
    import gradio as gr

    names = list(batcher.model.priors)

    def generate(
        prompt: str | None,
        prior: str | None,
        seed: int | float | None,
        second_prompt: str | None,
        mix: int | float | None,
        negative_prompt: str | None,
        steps: int | float | None = None,
        guidance: int | float | None = None,
    ) -> tuple[Path, dict[str, Any]]:
        """Generate one image of a prompt, or of a mix of two, and say what is known of it."""
        asked: dict[str, Any] = {"prompt": prompt, "prior": prior, "seed": seed, "second_prompt": second_prompt}
        asked |= {"mix": mix, "negative_prompt": negative_prompt}
        try:
            for name, value in asked.items():
                if value is None:
                    raise ValueError(f"{name} is null: give a value, or leave it out for its default.")
            asked |= {"mix": float(asked["mix"]), "seed": whole(asked["seed"], "seed")}
            count = None if steps is None else whole(steps, "number of steps")
            scale = None if guidance is None else float(guidance)
            (answer,) = batcher.ask([Request(**asked, steps=count, guidance=scale)])
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return saved(answer.image, Path(shown.GRADIO_CACHE)), answer.facts

    # Its fields are not shown: they give the endpoint its types and defaults.
    with gr.Column(visible=False):
        inputs = [
            gr.Textbox(label="prompt"),
            gr.Dropdown(names, value=names[0], label="prior", allow_custom_value=True),
            gr.Number(0, label="seed"),
            gr.Textbox("", label="second_prompt"),
            gr.Number(0, label="mix"),
            gr.Textbox("", label="negative_prompt"),
            gr.Number(None, label="steps"),
            gr.Number(None, label="guidance"),
        ]
        shown = gr.Image(label="image")
        outputs = [shown, gr.JSON(label="facts")]
        trigger = gr.Button()
    # twice the batch: the next one gathers while the model works
    trigger.click(generate, inputs, outputs, api_name=NAME, concurrency_limit=2 * batcher.most, show_progress="hidden")


def saved(image: Image.Image, folder: Path) -> Path:
    """A new PNG file of the image in gradio's folder.

    Gradio itself would write equal images to one file, and who reads it while another's is written would get an error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".png", delete=False) as file:
        file.write(png_of(image))
    return Path(file.name)
