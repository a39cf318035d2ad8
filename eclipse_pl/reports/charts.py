"""The charts of the page, as SVG: final metrics by seed, and learning curves. The page has their colours and sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

from eclipse_pl.data.subset_names import ALL
from eclipse_pl.intervals import Estimate
from eclipse_pl.reports.latent_comparison import CurvePoint, LatentComparison
from eclipse_pl.reports.metrics import METRICS, Metric
from eclipse_pl.reports.tables import decimals_of, estimate_text, name_of, number
from eclipse_pl.reports.variants import Variant

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 44
EDGE, STEP = 12, 34
"""Of an interval chart, which has its names inside: the left margin, and the height of a variant."""
COLOURS = 7
"""The page defines this many colours; further lines repeat them with other dashes."""
DASHES = ("", "7 3", "2 3", "9 3 2 3")
Pixels = int | float

CURVES = tuple(metric for metric in METRICS if metric.name not in ("R@5", "R@10"))


@dataclass(frozen=True)
class Point:
    """A mean and its interval (NaN where there is none), with the words that a pointer shows."""

    x: float
    y: float
    low: float
    high: float
    title: str


@dataclass(frozen=True)
class Whisker:
    """A variant of an interval chart; ``number`` gives its colour, and ``values`` are those of single seeds."""

    name: str
    number: int | None
    point: Point
    values: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Axis:
    """From data to pixels."""

    low: float
    high: float
    first: int
    last: int

    def at(self, value: float) -> float:
        return self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first)

    def clipped(self, value: float) -> float:
        return self.at(min(max(value, self.low), self.high))

    @property
    def ticks(self) -> list[float]:
        """Round numbers inside the axis, about five."""
        rough = (self.high - self.low) / 7
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def final_charts(latent: LatentComparison, metrics: Sequence[Metric]) -> dict[str, list[Markup]]:
    """{metric: [means, differences]}"""
    charts = {}
    for metric in metrics:
        estimates = [latent.estimate(variant, metric) for variant in latent.variants]
        whiskers = [
            Whisker(
                name_of(latent, variant), at, point_of(0.0, one, variant, metric, estimates), latent.values(variant, metric)
            )
            for at, (variant, one) in enumerate(zip(latent.variants, estimates, strict=True))
        ]
        for name, rows in latent.context.items():
            if name.startswith("ridge"):
                value = rows[ALL].get(metric.name, math.nan)
                title = f"{name}: {metric.name} {number(value, decimals_of(estimates))}"
                whiskers.append(Whisker(name, None, Point(0.0, value, math.nan, math.nan, title)))
        paired = [latent.difference(variant, metric) for variant in latent.others]
        differences = [
            Whisker(name_of(latent, variant), latent.variants.index(variant), point_of(0.0, one, variant, metric, paired))
            for variant, one in zip(latent.others, paired, strict=True)
        ]
        label = f"difference in {metric.name} from {latent.reference.name}"
        drawn = [interval_chart(whiskers, metric.name), interval_chart(differences, label, zero=True)]
        charts[metric.name] = [chart for chart in drawn if chart]
    return charts


def learning_curves(latent: LatentComparison) -> dict[str, list[Markup]]:
    """{metric: [over samples, over time]}; metrics without a curve are left out."""
    charts = {}
    seconds = [run.total("train_seconds") for run in latent.runs]
    unit, size = unit_of(max((one for one in seconds if not math.isnan(one)), default=0.0))
    for metric in CURVES:
        curves = [latent.curve(variant, metric) for variant in latent.variants]
        levels = {name: rows[ALL][metric.name] for name, rows in latent.context.items()}
        drawn = [
            line_chart(lines_of(latent, curves, metric, x_of), label, metric.name, levels)
            for label, x_of in (
                ("samples seen", lambda point: point.samples),
                (f"training, {unit}", lambda point: point.seconds / size),
            )
        ]
        if any(drawn):
            charts[metric.name] = [chart for chart in drawn if chart]
    return charts


def lines_of(
    latent: LatentComparison, curves: list[list[CurvePoint]], metric: Metric, x_of: Callable[[CurvePoint], float]
) -> list[list[Point]]:
    """A line for each variant."""
    return [
        [
            point_of(
                x_of(point), point.value, variant, metric, [one.value for one in curve], f", step {point.step:,}",
                f"; {point.samples:,.0f} samples, {number(point.seconds, 1)} s",
            )
            for point in curve
        ]
        for variant, curve in zip(latent.variants, curves, strict=True)
    ]  # fmt: skip


def point_of(
    x: float, one: Estimate, variant: Variant, metric: Metric, estimates: Sequence[Estimate], where: str = "", more: str = ""
) -> Point:
    text = estimate_text(one, decimals_of(estimates))
    return Point(x, one.mean, one.low, one.high, f"{variant.name}{where}: {metric.name} {text}, n = {one.n}{more}")


def unit_of(seconds: float) -> tuple[str, int]:
    """Seconds, minutes or hours, and how many seconds that is."""
    if seconds >= 18_000:
        return "h", 3600
    return ("min", 60) if seconds >= 300 else ("s", 1)


def line_chart(lines: list[list[Point]], x_label: str, y_label: str, levels: dict[str, float]) -> Markup:
    """Means with bands, over x. Levels (baselines, ridge, upper bound) are drawn where they lie inside the axis."""
    lines = [[point for point in line if finite(point.x, point.y)] for line in lines]
    points = [point for line in lines for point in line]
    if not points:
        return Markup("")
    x = axis([0.0, *(point.x for point in points)], [], LEFT, WIDTH - RIGHT)
    y = axis([point.y for point in points], [bound for p in points for bound in (p.low, p.high)], HEIGHT - BOTTOM, TOP)
    chart = svg(f"{y_label} against {x_label}", HEIGHT)
    draw_frame(chart, x, y, x_label, y_label)
    for name, level in together(levels, y).items():
        line(chart, "level", LEFT, WIDTH - RIGHT, y.at(level), y.at(level))
        text(chart, name, WIDTH - RIGHT - 3, y.at(level) - 4, "end", "level")
    for at, one in enumerate(lines):
        banded = [point for point in one if finite(point.low, point.high)]
        if len(banded) > 1:
            outline = [(p.x, p.high) for p in banded] + [(p.x, p.low) for p in reversed(banded)]
            corners = " ".join(f"{x.at(place):.1f},{y.clipped(bound):.1f}" for place, bound in outline)
            add(chart, "polygon", class_=f"band {colour(at)}", points=corners)
    for at, one in enumerate(lines):
        path = " ".join(f"{x.at(point.x):.1f},{y.at(point.y):.1f}" for point in one)
        add(chart, "polyline", class_=f"line {colour(at)}", stroke_dasharray=dash(at), points=path)
        for point in one:
            draw_dot(chart, x.at(point.x), y.at(point.y), at, point.title)
    return markup(chart)


def interval_chart(whiskers: list[Whisker], label: str, zero: bool = False) -> Markup:
    """A line each: the name above, below it the mean, its interval and the single values. ``zero`` draws a line there."""
    whiskers = [whisker for whisker in whiskers if finite(whisker.point.y)]
    if not whiskers:
        return Markup("")
    height = TOP + STEP * len(whiskers) + BOTTOM
    base = height - BOTTOM
    values = [one for w in whiskers for one in (w.point.y, *w.values, w.point.low, w.point.high)] + ([0.0] if zero else [])
    x = axis([value for value in values if finite(value)], [], EDGE, WIDTH - RIGHT)
    chart = svg(label, height)
    line(chart, "axis", EDGE, WIDTH - RIGHT, base, base)
    for tick, words in labels(x.ticks):
        line(chart, "grid", x.at(tick), x.at(tick), TOP, base)
        text(chart, words, x.at(tick), base + 16)
    text(chart, label, (EDGE + WIDTH - RIGHT) / 2, height - 8, class_="label")
    if zero:
        line(chart, "zero", x.at(0.0), x.at(0.0), TOP, base)
    for at, whisker in enumerate(whiskers):
        top, shade, point = TOP + at * STEP, colour(whisker.number), whisker.point
        name = whisker.name if len(whisker.name) < 62 else f"{whisker.name[:60]}…"
        text(chart, name, EDGE + 2, top + 12, "start", "name")
        if finite(point.low, point.high):
            line(chart, f"whisker {shade}", x.at(point.low), x.at(point.high), top + 24, top + 24)
        for value in whisker.values:
            add(chart, "circle", class_=f"single {shade}", cx=x.at(value), cy=top + 24, r=2.5)
        draw_dot(chart, x.at(point.y), top + 24, whisker.number, point.title)
    return markup(chart)


def together(levels: dict[str, float], y: Axis) -> dict[str, float]:
    """Levels inside the axis; those whose labels would cover each other share one label, at the highest of them."""
    inside = sorted(((value, name) for name, value in levels.items() if y.low < value < y.high), reverse=True)
    groups: list[tuple[float, list[str]]] = []
    for value, name in inside:
        if groups and y.at(value) - y.at(groups[-1][0]) < 13:
            groups[-1][1].append(name)
        else:
            groups.append((value, [name]))
    return {", ".join(names): value for value, names in groups}


def axis(values: Iterable[float], bounds: Iterable[float], first: int, last: int) -> Axis:
    """Holds all values; bounds of intervals only as far as they do not squeeze the values into a corner."""
    values = list(values)
    low, high = min(values), max(values)
    # a spread below this is rounding, and too narrow for ticks
    least = max(1e-9 * max(abs(low), abs(high)), 1e-100)
    reach = (high - low) / 2 if high - low > least else abs(high) / 10 if abs(high) > least else 1.0
    known = [bound for bound in bounds if math.isfinite(bound)]
    low, high = max(min([low, *known]), low - reach), min(max([high, *known]), high + reach)
    room = (high - low) * 0.04 if high - low > least else reach
    return Axis(low if low == 0 else low - room, high + room, first, last)


def draw_frame(chart: Element, x: Axis, y: Axis, x_label: str, y_label: str) -> None:
    for tick, words in labels(y.ticks):
        line(chart, "grid", LEFT, WIDTH - RIGHT, y.at(tick), y.at(tick))
        text(chart, words, LEFT - 6, y.at(tick) + 4, "end")
    for tick, words in labels(x.ticks):
        text(chart, words, x.at(tick), HEIGHT - BOTTOM + 16)
    line(chart, "axis", LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, HEIGHT - BOTTOM)
    text(chart, x_label, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, class_="label")
    turned = f"translate(13 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"
    add(chart, "text", y_label, class_="label", transform=turned, text_anchor="middle")


def labels(ticks: list[float]) -> list[tuple[float, str]]:
    """Ticks in as few digits as tell them apart; thousands as k, millions as M."""
    largest = max((abs(tick) for tick in ticks), default=0.0)
    scale, unit = (1e6, "M") if largest >= 1e6 else (1e3, "k") if largest >= 1e4 else (1.0, "")
    step = ticks[1] - ticks[0] if len(ticks) > 1 else largest or 1.0
    decimals = max(0, -math.floor(math.log10(step / scale) + 1e-9))
    return [(tick, f"{tick / scale:.{decimals}f}".replace("-", "−") + (unit if tick else "")) for tick in ticks]


def draw_dot(chart: Element, x: Pixels, y: Pixels, number: int | None, title: str) -> None:
    """With a circle around it that a finger can hit."""
    group = add(chart, "g")
    add(group, "title", title)
    add(group, "circle", class_="touch", cx=x, cy=y, r=11)
    add(group, "circle", class_=f"dot {colour(number)}", cx=x, cy=y, r=3.5)


def svg(label: str, height: int) -> Element:
    return Element("svg", {"class": "chart", "viewBox": f"0 0 {WIDTH} {height}", "role": "img", "aria-label": label})


def line(parent: Element, class_: str, x1: Pixels, x2: Pixels, y1: Pixels, y2: Pixels) -> None:
    add(parent, "line", class_=class_, x1=x1, x2=x2, y1=y1, y2=y2)


def text(parent: Element, words: str, x: Pixels, y: Pixels, anchor: str = "middle", class_: str = "tick") -> None:
    add(parent, "text", words, class_=class_, x=x, y=y, text_anchor=anchor)


def add(parent: Element, tag: str, words: str = "", **attributes: str | Pixels) -> Element:
    """Numbers are pixels, to a tenth."""
    child = SubElement(parent, tag)
    child.text = words
    for name, value in attributes.items():
        child.set(name.strip("_").replace("_", "-"), value if isinstance(value, str) else f"{value:.1f}")
    return child


def markup(chart: Element) -> Markup:
    """ElementTree escapes texts and attributes."""
    return Markup(tostring(chart, encoding="unicode", short_empty_elements=False))


def colour(number: int | None) -> str:
    return "context" if number is None else f"c{number % COLOURS}"


def dash(number: int) -> str:
    """Another one for each line of a colour."""
    return DASHES[(number % COLOURS + number // COLOURS) % len(DASHES)]


def finite(*values: float) -> bool:
    return all(math.isfinite(value) for value in values)
