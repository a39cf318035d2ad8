"""The lines of a prompt file."""

from __future__ import annotations

from pathlib import Path

from eclipse_pl.formats.text_file import lines_of, read_text, unusable


def require_file(path: Path) -> None:
    """Check that a prompt file exists.

    Raises:
        ValueError: It does not; the error names the command that downloads the prompts.
    """
    if not path.is_file():
        raise ValueError(
            f"There is no {path}. `python -m data_prep prompts --suite compbench --out FOLDER` downloads the prompts of "
            "T2I-CompBench; --suite geneval, dpg, dsg, geneval2 and genai_bench those of the other suites."
        )


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the number (from 0) and the text of every line that is not blank.

    Raises:
        ValueError: The file is missing or has no prompt, or a line has a character that no prompt can have.
    """
    require_file(path)
    lines = [(number, line.strip()) for number, line in enumerate(lines_of(read_text(path), str(path))) if line.strip()]
    if not lines:
        raise ValueError(f"{path} has no prompt.")
    for number, line in lines:
        if problem := prompt_problem(line):
            raise ValueError(f"{path}, line {number + 1}, {problem}.")
    return lines


def prompt_problem(text: str) -> str | None:
    """Return why files, tokenizers or scorers cannot take a text as a prompt; None where all can."""
    return "holds the character NUL" if "\0" in text else unusable(text)
