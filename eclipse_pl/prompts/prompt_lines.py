"""Lines of a prompt file, and what a parser says of them."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from eclipse_pl.files import write_atomically
from eclipse_pl.formats.text_file import lines_of, read_text, unusable
from eclipse_pl.prompts.parser import Parser, Reading, Word
from eclipse_pl.prompts.record import RECORD_NAME, file_sha256


def cache_path(path: Path) -> Path:
    """Where the readings of a file are kept."""
    return path.with_name(path.name + ".parsed.json")


def require_file(path: Path) -> None:
    """ValueError where the file is missing, with the command that downloads it."""
    if not path.is_file():
        raise ValueError(
            f"There is no {path}. `python -m data_prep prompts --suite compbench --out FOLDER` downloads the prompts of "
            "T2I-CompBench, `--suite geneval` those of GenEval."
        )


def read_lines(path: Path) -> list[tuple[int, str]]:
    """(number from 0, text) of every line that is not blank. ValueError for a file without a prompt, and for a NUL."""
    require_file(path)
    lines = [(number, line.strip()) for number, line in enumerate(lines_of(read_text(path), str(path))) if line.strip()]
    if not lines:
        raise ValueError(f"{path} holds no prompt.")
    for number, line in lines:
        if problem := no_prompt(line):
            raise ValueError(f"{path}, line {number + 1}, {problem}.")
    return lines


def no_prompt(text: str) -> str | None:
    """Why a text is none that files, tokenizers and scorers can take; None where it is one."""
    return "holds the character NUL" if "\0" in text else unusable(text)


def read_all(path: Path, texts: list[str], parser: Parser) -> list[Reading]:
    """Every text of the file ``path`` as ``parser`` reads it.

    In a folder that `data_prep prompts` made, readings are kept beside the file, by the file's hash and the parser's version.
    What was kept of another file or by another parser, or is damaged, is read anew. Other folders are left alone.
    """
    if not (path.parent / RECORD_NAME).is_file():
        return [parser.read(text) for text in texts]
    cache = cache_path(path)
    key = {"parser": parser.version, "sha256": file_sha256(path)}
    kept = _kept(cache, key)
    found = {text: kept[text] if text in kept else parser.read(text) for text in texts}
    if found.keys() - kept.keys():
        with suppress(OSError):  # a full disk or a folder of somebody else: the prompts are read again the next time
            write_atomically(cache, json.dumps({**key, "readings": {**kept, **found}}, ensure_ascii=False).encode())
    return [found[text] for text in texts]


def _kept(cache: Path, key: dict[str, str]) -> dict[str, Reading]:
    try:
        content = json.loads(cache.read_text(encoding="utf-8"))
        if {name: content[name] for name in key} != key:
            return {}
        return {
            str(text): Reading(tuple(Word(str(word), str(tag)) for word, tag in words), tuple(map(str, phrases)))
            for text, (words, phrases) in content["readings"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
