"""Users' text files: UTF-8, with lines that end in ``\\n`` or ``\\r\\n``."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from eclipse_pl.formats.file_kind import PACKED, kind_of_bytes

MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
BYTE_ORDER_MARK = "\ufeff"


def read_text(path: str | Path) -> str:
    """Read a UTF-8 file, without its byte order mark.

    Raises:
        ValueError: There is no such file, or it is not UTF-8 text.
    """
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder, not a text file.")
    if not Path(path).is_file():
        raise ValueError(f"There is no {path}.")
    return decoded(Path(path).read_bytes(), str(path))


def decoded(content: bytes, place: str) -> str:
    """Decode the UTF-8 text in ``content``.

    Raises:
        ValueError: It has another encoding, or is no text. The error names its kind.
    """
    for mark, encoding in MARKS.items():
        if content.startswith(mark):
            raise ValueError(f"{place} is {encoding} text. {_convert(encoding)}")
    if kind := kind_of_bytes(content[:512]):
        remedy = "Unpack it first." if kind in PACKED else "Save it as text in UTF-8."
        raise ValueError(f"{place} is not text: its first bytes are those of {kind}. {remedy}")
    if unmarked := _without_mark(content):
        raise ValueError(
            f"{place} is {unmarked} text without a byte order mark: every second byte of its line 1 is 0. {_convert(unmarked)}"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{place} is not UTF-8 text: line {line} holds the byte 0x{content[error.start]:02x}, as Latin-1 or Windows-1252 "
            f"would. {_convert('WINDOWS-1252')}"
        ) from error


def lines_of(text: str, place: str) -> list[str]:
    """Split a text into lines, without their ends.

    ``str.splitlines`` would also split at U+2028, NEL, form feed and five others, which occur inside captions.

    Raises:
        ValueError: Lines end in carriage returns alone, or a line begins with a byte order mark, as in joined files.
    """
    if "\r" in text.rstrip("\r") and "\n" not in text:
        raise ValueError(
            f"{place}: line 1 holds carriage returns, and the file has no line feed, as on an old Macintosh. Convert its "
            r"line ends: tr '\r' '\n' < OLD > NEW."
        )
    lines = re.split(r"\r?\n", text)
    if not lines[-1]:
        lines.pop()
    if BYTE_ORDER_MARK in text:
        for number, line in enumerate(lines, start=1):
            if line.startswith(BYTE_ORDER_MARK):
                raise ValueError(
                    f"{place}, line {number}, begins with a byte order mark (U+FEFF), as in joined files. Remove it."
                )
    return lines


def unusable(text: str) -> str | None:
    """Describe what makes a text unusable for files and tokenizers, or return None."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"holds half of a character (the lone surrogate U+{ord(text[error.start]):04X})"
    return None


def _without_mark(content: bytes) -> str | None:
    """Recognise UTF-16 of Latin letters, where nearly all bytes at even (or at odd) places are 0."""
    head = content[:512]
    for start, encoding in ((1, "UTF-16LE"), (0, "UTF-16BE")):
        half = head[start::2]
        if len(half) > 3 and half.count(0) * 10 > len(half) * 9 and 0 not in head[1 - start :: 2]:
            return encoding
    return None


def _convert(encoding: str) -> str:
    return f"Convert it: iconv -f {encoding} -t UTF-8 OLD > NEW."
