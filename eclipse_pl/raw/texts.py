"""Read captions and metadata from a sample's .txt and .json, or from a row of a table.

KEY.txt holds the caption. If it is missing or blank, the first of "caption", "captions", "text" and "TEXT" in KEY.json that
is neither null nor blank does: one string, or a list of strings for several captions. Both files are UTF-8, or UTF-16 or
UTF-32 with a byte order mark. A row of a table takes the place of KEY.json.

"negative_caption" in KEY.json is a hard negative: the caption with swapped attributes, which does not describe the image. For
several captions it is a list with an entry for each, null or blank where a caption has none.
"""

from __future__ import annotations

import json
import math
from typing import Any

from eclipse_pl.formats.text_file import MARKS
from eclipse_pl.raw.reasons import BAD_CAPTION, BAD_JSON, BAD_NEGATIVE_CAPTION, NO_CAPTION, NO_KEY, ODD_TEXT

CAPTIONS = ("caption", "captions", "text", "TEXT")
NEGATIVE = "negative_caption"
_KINDS = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    dict: "an object",
    list: "a list",
    type(None): "null",
    bytes: "no UTF-8",
}


class NoPairError(Exception):
    """A sample that is no pair, with the kind and the detail of the reason (`reasons`)."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail


def captions_of(txt: bytes | None, about: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Return the captions, at least one, each with its negative caption or None; all without surrounding blanks."""
    written = "" if txt is None else decoded(txt, "txt", BAD_CAPTION).strip()
    captions = [written] if written else next((found for name in CAPTIONS if any(found := _listed(about, name))), [])
    if not captions:
        named = "" if not about or about.keys() & set(CAPTIONS) else f"its fields are {', '.join(sorted(about)[:6])}"
        raise NoPairError(NO_CAPTION, named)
    negatives = _listed(about, NEGATIVE, BAD_NEGATIVE_CAPTION, or_null=True)
    if not any(negatives):
        negatives = [""] * len(captions)
    if len(negatives) != len(captions):
        place = " of the txt" if written else ""
        raise NoPairError(BAD_NEGATIVE_CAPTION, f"{len(negatives)} for {len(captions)} captions{place}")
    pairs = [pair for pair in zip(captions, negatives, strict=True) if pair[0]]
    return [(require_plain(one, "caption"), require_plain(other, NEGATIVE) or None) for one, other in pairs]


def about_of(content: bytes | None) -> dict[str, Any]:
    """Return the object in a json, or an empty one without a json."""
    if content is None:
        return {}
    text = decoded(content, "json", BAD_JSON)
    try:
        about = json.loads(text, parse_int=_number)
    except RecursionError:
        raise NoPairError(BAD_JSON, "it is nested too deeply") from None
    except ValueError as error:
        raise NoPairError(BAD_JSON, str(error) if text.strip() else "it is empty") from None
    if not isinstance(about, dict):
        raise NoPairError(BAD_JSON, f"it is {kind_of(about)}, and an object is expected")
    return about


def require_plain(text: str, name: str) -> str:
    """Return ``text``, or raise NoPairError for a lone surrogate or a NUL."""
    if "\0" in text:
        raise NoPairError(ODD_TEXT, f"its {name} holds a NUL: {text[:60]!r}")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise NoPairError(ODD_TEXT, f"its {name} holds half of a character, or is no UTF-8: {text[:60]!a}")
    return text


def key_of(value: Any) -> str:
    """Return the key in a cell as text, or raise NoPairError where there is none."""
    text = decoded(value, "key", ODD_TEXT) if isinstance(value, bytes) else value
    missing = text is None or (isinstance(text, float) and math.isnan(text))
    if key := "" if missing else str(text).strip():
        return require_plain(key, "key")
    raise NoPairError(NO_KEY)


def decoded(content: bytes, name: str, kind: str) -> str:
    encoding = next((encoding for mark, encoding in MARKS.items() if content.startswith(mark)), "utf-8-sig")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise NoPairError(kind, f"its {name} is no {encoding.removesuffix('-sig').upper()}") from None


def kind_of(value: Any) -> str:
    return _KINDS.get(type(value), "text")


def _listed(about: dict[str, Any], name: str, kind: str = BAD_CAPTION, or_null: bool = False) -> list[str]:
    """The text or texts of a field, blanks included."""
    found = about.get(name)
    several = found if isinstance(found, list) else [] if found is None else [found]
    for one in several:
        if not (isinstance(one, str) or (or_null and one is None)):
            where = "a list with " if isinstance(found, list) else ""
            raise NoPairError(kind, f"its {name!r} is {where}{kind_of(one)}")
    return [(one or "").strip() for one in several]


def _number(digits: str) -> int | float:
    """Read long integers as floats, because Python refuses integers of more than 4,300 digits."""
    return int(digits) if len(digits) < 20 else float(digits)
