"""Outputs of networks that are not numbers: a precision that overflows, or damaged weights."""

from __future__ import annotations

from torch import Tensor

from eclipse_pl.scorers.scorer import NOT_A_NUMBER


class NotANumber(ArithmeticError):
    """A network's output is not a number. `NetworkScorer` catches it and fails the image."""

    def __init__(self, reason: str = NOT_A_NUMBER) -> None:
        super().__init__(reason)


def require_finite(values: Tensor) -> Tensor:
    """Return the values.

    Rules and argmax need it before they read them: a comparison with NaN is false and its argmax is a place, so that an image
    without any evidence would have a score.

    Raises:
        NotANumber: One of them is not a finite number.
    """
    if not values.isfinite().all():
        raise NotANumber
    return values
