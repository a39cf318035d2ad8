"""What the page shows of one set of answers, as HTML."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from eclipse_pl.demo.answer import Answer, png_of

TEMPLATE = Path(__file__).parent / "results.html"


def results(answers: Sequence[Answer], titles: dict[str, str]) -> str:
    """A column for each prior with its images, and the latency of each part. Texts of users are escaped.

    Args:
        answers: Those of one set, made together.
        titles: What each prior is, by its name, in the order of the columns.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    of_prior = {name: [answer for answer in answers if answer.request.prior == name] for name in titles}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        columns=[(name, titles[name], own) for name, own in of_prior.items() if own],
        latency=latency_of(answers),
        source=source_of,
    )


def latency_of(answers: Sequence[Answer]) -> list[tuple[str, str]]:
    """Each part of the work and its time."""
    first = answers[0].latency
    priors = {answer.request.prior: answer.latency.prior for answer in answers}
    parts = [("encoder", first.encoder), *((f"prior {name}", seconds) for name, seconds in priors.items())]
    parts += [("decoder", first.decoder), ("scorers", first.scorers)]
    count = f"{first.images} image{'s' * (first.images != 1)} together"
    return [(part, readable(seconds)) for part, seconds in parts] + [("", count)]


def readable(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def source_of(image: Image.Image) -> str:
    """The image as a URL that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png_of(image)).decode()}"
