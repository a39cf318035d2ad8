from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

TEXT_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def log_uniform(rng: Random, low: float, high: float) -> float:
    return min(
        high, max(low, math.exp(rng.uniform(math.log(low), math.log(high))))
    )  # rounding in exp and log may leave the bounds


BOUNDS: dict[str, tuple[str, str]] = {"normal": ("mu", "sigma"), "log_normal": ("mu", "sigma"), "beta": ("a", "b")}
DRAW: dict[str, Callable[[Random, Any, Any], float]] = {
    "uniform": Random.uniform,
    "int_uniform": Random.randint,
    "log_uniform_values": log_uniform,
    "normal": Random.gauss,
    "log_normal": Random.lognormvariate,
    "beta": Random.betavariate,
}
"""Distributions as Weights & Biases defines them, of BOUNDS, or of min and max. ``q_NAME`` rounds to multiples of q."""
CAN_DRAW: dict[str, Callable[[Any, Any], bool]] = {
    "log_uniform_values": lambda low, high: 0 < low < high,
    "normal": lambda mu, sigma: sigma >= 0,
    "log_normal": lambda mu, sigma: sigma >= 0,
    "beta": lambda a, b: a > 0 and b > 0,
}
"""Whether a distribution can be drawn from with its bounds. Of the others the minimum is less than the maximum."""


@dataclass(frozen=True)
class Parameter:
    """One entry of ``parameters`` in a sweep file: a constant (``value``), a list (``values``) or a distribution.

    Raises:
        ValueError: ``method`` cannot sweep it, or Weights & Biases would read it in another way.
    """

    name: Any  # a string if the file is right, as the specification is a mapping
    specification: Any
    method: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise ValueError(f"the parameter {self.name} must be a path of letters, digits, `_`, `-` and dots")
        if not isinstance(self.specification, dict):
            raise ValueError(f"{self.name} must be {{value: ...}}, {{values: [...]}} or {{min: ..., max: ...}}")
        if written := numbers_as_text(self.specification):
            raise ValueError(f"{self.name} has {written[0]}, which YAML reads as text; write {dotted(written[0])}")
        if "parameters" in self.specification:
            raise ValueError(f"{self.name} is nested, which the agent passes as one mapping; write dotted names instead")
        if self.values is None:
            self._check_distribution()
        else:
            self._check_values(self.values)

    @property
    def varies(self) -> bool:
        """A list of one varies too, so that its runs keep their names when the list grows."""
        return "value" not in self.specification

    @property
    def values(self) -> Any:
        """Constants and lists; None for distributions."""
        found = self.specification.get("values")
        return [self.specification["value"]] if not self.varies else found

    @property
    def distribution(self) -> str | None:
        """The one in the file. Without one, integer bounds draw integers, and float bounds floats."""
        kinds = {type(self.specification.get(bound)) for bound in ("min", "max")}
        implied = {frozenset({int}): "int_uniform", frozenset({float}): "uniform"}.get(frozenset(kinds))
        return self.specification.get("distribution", implied)

    def axis(self) -> list[Any]:
        """All values of a grid."""
        if self.values is not None:
            return self.values
        return list(range(self.specification["min"], self.specification["max"] + 1))

    def draw(self, rng: Random) -> Any:
        if self.values is not None:
            return rng.choices(self.values, self.specification.get("probabilities"))[0]
        kind, step = self._kind_and_step()
        value = DRAW[kind](rng, *self._bounds(kind))
        if step is None:
            return value
        return round(value / step) * step if isinstance(step, int) else round(round(value / step) * step, 12)

    def _kind_and_step(self) -> tuple[str, Any]:
        kind = str(self.distribution)
        return kind.removeprefix("q_"), self.specification.get("q", 1) if kind.startswith("q_") else None

    def _bounds(self, kind: str) -> list[Any]:
        default = {"mu": 0.0, "sigma": 1.0, "a": 1.0, "b": 1.0}
        return [self.specification.get(bound, default.get(bound)) for bound in BOUNDS.get(kind, ("min", "max"))]

    def _check_values(self, values: Any) -> None:
        if not isinstance(values, list) or not values:
            raise ValueError(f"{self.name} has no list of values: {values}")
        if None in values:
            raise ValueError(f"{self.name} has null, which the agent passes as the word None; leave it to the config")
        twice = [value for place, value in enumerate(values) if any(same(value, other) for other in values[:place])]
        if twice:
            raise ValueError(f"{self.name} has the value {twice[0]} twice")
        chances = self.specification.get("probabilities")
        if chances is not None and (self.method == "grid" or not are_probabilities(chances, len(values))):
            raise ValueError(f"{self.name} has probabilities {chances}: one a value, adding up to 1, and drawn (random)")
        self._check_fields("values" if self.varies else "value", "probabilities", "distribution")
        kinds = ("categorical", "categorical_w_probabilities") if self.varies else ("constant",)
        if (kind := self.specification.get("distribution", kinds[0])) not in kinds:
            raise ValueError(
                f"{self.name} has the distribution {kind} beside its {'values' if self.varies else 'value'}, which is "
                f"{' or '.join(kinds)} at most; leave it out, or give the distribution its bounds in place of them"
            )

    def _check_distribution(self) -> None:
        if self.distribution is None:
            raise ValueError(f"{self.name} needs value, values, or min and max: both integers, or both floats (as in 1.0)")
        kind, step = self._kind_and_step()
        if kind not in DRAW:
            hint = "; bounds are values, not exponents, with log_uniform_values" if "log_uniform" in kind else ""
            raise ValueError(f"{self.name}: {kind} is none of {', '.join(DRAW)}, with or without q_ before it{hint}")
        if self.method == "grid" and self.distribution != "int_uniform":
            raise ValueError(f"{self.name} is drawn ({kind}), which a grid cannot do; list its values, or use method: random")
        bounds = BOUNDS.get(kind, ("min", "max"))
        self._check_fields(*bounds, "distribution", *([] if step is None else ["q"]))
        low, high = self._bounds(kind)
        kinds = (int,) if kind == "int_uniform" else (int, float)
        numbers = all(type(bound) in kinds and math.isfinite(bound) for bound in (low, high))
        if not numbers or not CAN_DRAW.get(kind, operator.lt)(low, high):
            raise ValueError(f"{self.name} has {bounds[0]} {low} and {bounds[1]} {high}, which {kind} cannot use")
        if step is not None and (type(step) not in (int, float) or step <= 0):
            raise ValueError(f"{self.name} has q {step}; it must be a positive number")

    def _check_fields(self, *known: str) -> None:
        if unknown := sorted(self.specification.keys() - set(known)):
            raise ValueError(f"{self.name} has {unknown[0]}, which is unknown there; the keys are {', '.join(known)}")


def are_probabilities(chances: Any, count: int) -> bool:
    """Whether these are ``count`` numbers from 0 that add up to 1."""
    if not isinstance(chances, list) or len(chances) != count:
        return False
    return all(type(chance) in (int, float) and chance >= 0 for chance in chances) and math.isclose(sum(chances), 1)


def numbers_as_text(specification: dict[str, Any]) -> list[str]:
    """Numbers with an exponent and no dot, such as 1e-5."""
    given = [each for value in specification.values() for each in (value if isinstance(value, list) else [value])]
    return [value for value in given if isinstance(value, str) and TEXT_NUMBER.fullmatch(value)]


def dotted(value: str) -> str:
    """1e-5 as YAML reads it as a number: 1.0e-5."""
    mantissa, _, exponent = value.lower().partition("e")
    sign = "" if exponent[0] in "+-" else "+"
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{sign}{exponent}"


def same(one: Any, other: Any) -> bool:
    """0.2 and "0.2" are the same run, and so are 1 and 1.0; 1 and True are not."""
    return str(one) == str(other) or (one == other and isinstance(one, bool) == isinstance(other, bool))
