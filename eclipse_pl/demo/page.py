"""The page of the demo, and its endpoint for programs, in gradio's blocks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eclipse_pl.demo.batcher import Batcher
from eclipse_pl.demo.endpoint import add_endpoint
from eclipse_pl.demo.model import DemoModel
from eclipse_pl.demo.request import MOST_CHARACTERS, Request, whole
from eclipse_pl.demo.results import results

MOST_IMAGES = 4
"""Seeds that the page shows at once."""
STYLE = Path(__file__).parent / "page.css"


@dataclass(frozen=True)
class Page:
    """What the page asks of the model."""

    batcher: Batcher

    @property
    def model(self) -> DemoModel:
        return self.batcher.model

    @property
    def samplers(self) -> dict[str, tuple[int, float]]:
        """Steps and guidance of those priors that have them."""
        own = self.model.own.items()
        return {name: (one.steps, one.guidance) for name, one in own if one.steps is not None and one.guidance is not None}

    def show(self, given: dict[str, Any]) -> str:
        """The images of all priors on the same seeds.

        Raises:
            ValueError: The request is not valid.
        """
        seed, count = whole(given["seed"], "seed"), whole(given["images"], "number of images")
        texts: dict[str, Any] = {name: given.get(name) or "" for name in ("prompt", "second_prompt", "negative_prompt")}
        requests = [
            Request(**texts, prior=name, seed=seed + k, mix=float(given["mix"]), **self.settings(name, given))
            for name in self.model.priors
            for k in range(count)
        ]
        answers = self.batcher.ask(requests)
        return results(answers, {request.prior: self.model.describe(request) for request in requests})

    def settings(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """Steps and guidance of a prior that has them."""
        if name not in self.samplers:
            return {}
        guidance = given[f"guidance of {name}"]
        return {
            "steps": whole(given[f"steps of {name}"], "number of steps"),
            "guidance": None if guidance is None else float(guidance),
        }


def build_page(batcher: Batcher, queue: int) -> Any:
    """The page as ``gradio.Blocks``, with its queue.

    Args:
        batcher: Answers the requests, those of the page and those of programs.
        queue: The most requests that wait. More are refused.
    """
    import gradio as gr

    page, model = Page(batcher), batcher.model
    with gr.Blocks(title="eclipse_pl", analytics_enabled=False, delete_cache=(600, 600)) as blocks:
        names = " and ".join(model.priors)
        gr.HTML(
            f"<h1>From a prompt to images</h1><p>{escaped(names)} · space {escaped(model.space.name)}</p>", elem_classes="head"
        )
        fields: dict[str, Any] = {}
        with gr.Row(equal_height=True):
            fields["prompt"] = gr.Textbox(
                label="Prompt",
                placeholder="a red circle above a blue star",
                max_length=MOST_CHARACTERS,
                autofocus=True,
                scale=5,
                elem_id="prompt",
            )
            button = gr.Button("Generate", variant="primary", scale=1, min_width=120, elem_id="generate")
        with gr.Row():
            fields["second_prompt"] = gr.Textbox(
                label="Second prompt", placeholder="optional", max_length=MOST_CHARACTERS, scale=3, elem_id="second"
            )
            fields["mix"] = gr.Slider(0, 1, 0, step=0.05, label="Mix: 0 first, 1 second", scale=2, elem_id="mix")
        with gr.Row():
            fields["seed"] = gr.Number(0, label="Seed", min_width=90, elem_id="seed")
            fields["images"] = gr.Slider(1, MOST_IMAGES, 2, step=1, label="Images", min_width=140)
            for name, (steps, guidance) in page.samplers.items():
                whose = "" if len(page.samplers) == 1 else f", {name}"
                fields[f"steps of {name}"] = gr.Number(steps, label=f"Steps{whose}", min_width=90)
                fields[f"guidance of {name}"] = gr.Number(guidance, label=f"Guidance{whose}", min_width=90)
            if model.decoder.takes_negative:
                fields["negative_prompt"] = gr.Textbox(
                    label="Negative prompt",
                    placeholder="optional",
                    max_length=MOST_CHARACTERS,
                    min_width=160,
                    elem_id="negative",
                )
        shown = gr.HTML(elem_id="shown")

        def asked(*values: Any) -> Any:
            try:
                return page.show(dict(zip(fields, values, strict=True)))
            except ValueError as error:
                raise gr.Error(str(error), print_exception=False) from error

        def typed(*values: Any) -> Any:
            # whoever empties the field, or has not typed the second prompt yet, has asked for nothing
            given = dict(zip(fields, values, strict=True))
            if not given["prompt"].strip() or (given["mix"] and not given["second_prompt"].strip()):
                return gr.skip()
            return asked(*values)

        turns = {"concurrency_limit": batcher.most, "api_visibility": "private", "show_progress": "minimal"}
        inputs = list(fields.values())
        texts = [field for name, field in fields.items() if name.endswith("prompt")]
        gr.on([button.click, *(field.submit for field in texts)], asked, inputs, shown, **turns)
        changed = [field.change for field in inputs]  # `input` does not hear a text that is pasted
        # while one set is generated, only the newest of what was typed waits
        gr.on(changed, typed, inputs, shown, trigger_mode="always_last", **turns)
        add_endpoint(batcher)
    return blocks.queue(max_size=queue)


def escaped(text: str) -> str:
    from html import escape

    return escape(text)
