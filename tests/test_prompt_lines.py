"""The lines of a prompt file."""

from __future__ import annotations

from pathlib import Path

import pytest

from eclipse_pl.prompts.prompt_lines import read_lines


def test_lines_of_any_ending(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes("\ufeffone\r\n\r\n two \nthree".encode())
    assert read_lines(path) == [(0, "one"), (2, "two"), (3, "three")]
    path.write_bytes(b"one\ntwo\0three\n")
    with pytest.raises(ValueError, match=r"lines\.txt, line 2, holds the character NUL"):
        read_lines(path)
    path.write_text(" \n\n")
    with pytest.raises(ValueError, match="has no prompt"):
        read_lines(path)
