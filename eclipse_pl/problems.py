"""Problems: all that is wrong with a request, reported at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence


class SeveralProblems(ValueError):
    """Problems that were found together. ``found`` holds the sentence of each."""

    def __init__(self, found: list[str]) -> None:
        super().__init__(as_list(found))
        self.found = found


class Problems:
    """All that is wrong with a request, found before the work begins and reported at once."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.reported = False

    @contextlib.contextmanager
    def noted(self, remedy: str = "") -> Iterator[None]:
        """Keep the message of a ValueError in the block, followed by ``remedy``."""
        try:
            yield
        except ValueError as error:
            reason = reason_of(error)
            found = reason.found if isinstance(reason, SeveralProblems) else [str(reason)]
            self.found += [f"{one}{remedy}" for one in found]

    def report(self) -> None:
        """Raise one ValueError with all problems, one a line; do nothing where there are none."""
        found = list(dict.fromkeys(self.found))
        self.reported = bool(found)
        if found:
            raise SeveralProblems(found)


def as_list(problems: Sequence[str]) -> str:
    """One problem unchanged; several as a list, one a line."""
    if len(problems) == 1:
        return problems[0]
    return "\n".join([f"{len(problems)} problems:", *(f"  - {problem}" for problem in problems)])


def reason_of(error: ValueError) -> ValueError:
    """The error of a part's constructor, where jsonargparse wrapped it into the list of all types that it tried."""
    cause: BaseException | None = error
    while isinstance(cause, ValueError) and _raised_in(cause, "jsonargparse"):
        cause = cause.__cause__
    return cause if isinstance(cause, ValueError) else error


def _raised_in(error: BaseException, library: str) -> bool:
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and f"/{library}/" in place.tb_frame.f_code.co_filename.replace("\\", "/")
