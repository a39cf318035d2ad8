"""What a parser of arguments answers before it ends the process, as an error that can be handled."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator


@contextlib.contextmanager
def exit_as_error() -> Iterator[None]:
    """Nothing is printed within.

    Raises:
        ValueError: what would have been printed as the error.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            yield
    except SystemExit as stop:
        raise ValueError(" ".join(said.getvalue().rpartition("error: ")[2].split())) from stop
