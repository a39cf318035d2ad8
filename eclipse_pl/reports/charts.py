"""Charts as inline SVG: they take their colours from the page, and their size from the place they stand in."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 44
EDGE, ROW = 12, 34
"""Of an interval chart, whose names stand inside: its left margin, and the height of a row."""

COLOURS = 7
"""The page defines so many colours; further lines repeat them with other dashes."""

DASHES = ("", "7 3", "2 3", "9 3 2 3")


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    low: float
    high: float
    title: str


@dataclass(frozen=True)
class Line:
    """A variant: its number gives colour and dashes."""

    number: int
    points: list[Point]


@dataclass(frozen=True)
class Whisker:
    """A row of an interval chart: mean, interval (NaN where there is none) and single values."""

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

    @property
    def ticks(self) -> list[float]:
        """Round numbers inside the axis, about five."""
        rough = (self.high - self.low) / 7
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def line_chart(lines: list[Line], x_label: str, y_label: str, levels: dict[str, float]) -> str:
    """Means with bands, over x. Levels (baselines, ridge, upper bound) are drawn where they fall inside the axis."""
    lines = [Line(line.number, [point for point in line.points if finite(point.x, point.y)]) for line in lines]
    points = [point for line in lines for point in line.points]
    if not points:
        return ""
    x = axis([0.0, *(point.x for point in points)], [], LEFT, WIDTH - RIGHT)
    y = axis([point.y for point in points], [bound for p in points for bound in (p.low, p.high)], HEIGHT - BOTTOM, TOP)
    body = [frame(x, y, x_label, y_label)]
    body += [level_line(y.at(level), name) for name, level in together(levels, y).items()]
    for line in lines:
        banded = [point for point in line.points if finite(point.low, point.high)]
        if len(banded) > 1:
            upper = [f"{x.at(p.x):.1f},{clipped(y, p.high):.1f}" for p in banded]
            lower = [f"{x.at(p.x):.1f},{clipped(y, p.low):.1f}" for p in reversed(banded)]
            body.append(f'<polygon class="band {colour(line.number)}" points="{" ".join(upper + lower)}"/>')
    for line in lines:
        path = " ".join(f"{x.at(point.x):.1f},{y.at(point.y):.1f}" for point in line.points)
        body.append(f'<polyline class="line {colour(line.number)}" stroke-dasharray="{dash(line.number)}" points="{path}"/>')
        body += [dot(x.at(point.x), y.at(point.y), line.number, point.title) for point in line.points]
    return svg(f"{y_label} against {x_label}", HEIGHT, body)


def interval_chart(whiskers: list[Whisker], label: str, zero: bool = False) -> str:
    """One row each: the name above, below it the mean, its interval and the single values. ``zero`` draws a line there."""
    whiskers = [whisker for whisker in whiskers if finite(whisker.point.y)]
    if not whiskers:
        return ""
    height = TOP + ROW * len(whiskers) + BOTTOM
    means = [value for whisker in whiskers for value in (whisker.point.y, *whisker.values)]
    bounds = [bound for whisker in whiskers for bound in (whisker.point.low, whisker.point.high)]
    whole = [value for value in (*means, *bounds, *([0.0] if zero else [])) if finite(value)]
    x = axis(whole, [], EDGE, WIDTH - RIGHT)
    body = [f'<line class="axis" x1="{EDGE}" x2="{WIDTH - RIGHT}" y1="{height - BOTTOM}" y2="{height - BOTTOM}"/>']
    for tick, text in labels(x.ticks):
        body.append(f'<line class="grid" x1="{x.at(tick):.1f}" x2="{x.at(tick):.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>')
        body.append(f'<text x="{x.at(tick):.1f}" y="{height - BOTTOM + 16}" text-anchor="middle">{text}</text>')
    body.append(
        f'<text class="label" x="{(EDGE + WIDTH - RIGHT) / 2}" y="{height - 8}" text-anchor="middle">{escape(label)}</text>'
    )
    if zero:
        body.append(f'<line class="zero" x1="{x.at(0.0):.1f}" x2="{x.at(0.0):.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>')
    for row, whisker in enumerate(whiskers):
        top = TOP + row * ROW
        y = top + 24.0
        shade = "beside" if whisker.number is None else colour(whisker.number)
        name = whisker.name if len(whisker.name) < 62 else f"{whisker.name[:60]}…"
        body.append(f'<text class="name" x="{EDGE + 2}" y="{top + 12}">{escape(name)}</text>')
        if finite(whisker.point.low, whisker.point.high):
            ends = [f"{x.at(bound):.1f}" for bound in (whisker.point.low, whisker.point.high)]
            body.append(f'<line class="whisker {shade}" x1="{ends[0]}" x2="{ends[1]}" y1="{y}" y2="{y}"/>')
        body += [f'<circle class="single {shade}" cx="{x.at(value):.1f}" cy="{y}" r="2.5"/>' for value in whisker.values]
        body.append(dot(x.at(whisker.point.y), y, whisker.number, whisker.point.title))
    return svg(label, height, body)


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


def level_line(height: float, name: str) -> str:
    return (
        f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>'
        f'<text class="level" x="{WIDTH - RIGHT - 3}" y="{height - 4:.1f}" text-anchor="end">{escape(name)}</text>'
    )


def swatch(number: int) -> str:
    """The line of a variant, for a legend."""
    return (
        '<svg class="swatch" viewBox="0 0 30 12" width="30" height="12" aria-hidden="true">'
        f'<line class="line {colour(number)}" x1="1" x2="29" y1="6" y2="6" stroke-dasharray="{dash(number)}"/>'
        f'<circle class="dot {colour(number)}" cx="15" cy="6" r="3.5"/></svg>'
    )


def axis(values: Iterable[float], bounds: Iterable[float], first: int, last: int) -> Axis:
    """Holds all values; bounds of intervals only as far as they do not squeeze the values into a corner."""
    values = list(values)
    low, high = min(values), max(values)
    reach = (high - low) / 2 or abs(high) / 10 or 1.0
    known = [bound for bound in bounds if math.isfinite(bound)]
    low, high = max(min([low, *known]), low - reach), min(max([high, *known]), high + reach)
    room = (high - low) * 0.04 or reach
    return Axis(low if low == 0 else low - room, high + room, first, last)


def frame(x: Axis, y: Axis, x_label: str, y_label: str) -> str:
    parts = []
    for tick, text in labels(y.ticks):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y.at(tick):.1f}" y2="{y.at(tick):.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y.at(tick) + 4:.1f}" text-anchor="end">{text}</text>')
    for tick, text in labels(x.ticks):
        parts.append(f'<text x="{x.at(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{text}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="label" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    height = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text class="label" transform="translate(13 {height}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
    )
    return "".join(parts)


def labels(ticks: list[float]) -> list[tuple[float, str]]:
    """Ticks in as few digits as tell them apart; thousands as k, millions as M."""
    largest = max((abs(tick) for tick in ticks), default=0.0)
    scale, unit = (1e6, "M") if largest >= 1e6 else (1e3, "k") if largest >= 1e4 else (1.0, "")
    step = ticks[1] - ticks[0] if len(ticks) > 1 else largest or 1.0
    decimals = max(0, -math.floor(math.log10(step / scale) + 1e-9))
    return [(tick, f"{tick / scale:.{decimals}f}".replace("-", "−") + (unit if tick else "")) for tick in ticks]


def dot(x: float, y: float, number: int | None, title: str) -> str:
    """With a circle around it that a finger can hit."""
    shade = "beside" if number is None else colour(number)
    return (
        f'<g><title>{escape(title)}</title><circle class="touch" cx="{x:.1f}" cy="{y:.1f}" r="11"/>'
        f'<circle class="dot {shade}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/></g>'
    )


def svg(label: str, height: int, body: list[str]) -> str:
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">{"".join(body)}</svg>'


def colour(number: int) -> str:
    return f"c{number % COLOURS}"


def dash(number: int) -> str:
    """Another one for each line of a colour."""
    return DASHES[(number % COLOURS + number // COLOURS) % len(DASHES)]


def clipped(scale: Axis, value: float) -> float:
    return scale.at(min(max(value, scale.low), scale.high))


def finite(*values: float) -> bool:
    return all(math.isfinite(value) for value in values)
