from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eclipse_pl.raw.texts import NoPairError, about_of, captions_of, require_plain


def captions(txt: bytes | None = None, **about: Any) -> list[str]:
    return [caption for caption, _ in captions_of(txt, about_of(json.dumps(about).encode()))]


def negatives(negative: Any, caption: Any = None, txt: bytes | None = None) -> list[tuple[str, str | None]]:
    return captions_of(txt, {"caption": caption, "negative_caption": negative})


def reason(txt: bytes | None, content: bytes | None) -> str:
    with pytest.raises(NoPairError) as error:
        captions_of(txt, about_of(content))
    return f"{error.value.kind}: {error.value.detail}"


def test_where_a_caption_may_stand() -> None:
    assert captions(b" a cat\n") == captions(caption="a cat") == captions(TEXT="a cat ") == captions(text="a cat") == ["a cat"]
    assert captions(b"from the text", caption="from the json") == ["from the text"]
    assert captions(b" \n", caption="from the json") == ["from the json"]
    assert captions(caption=None, text="a cat", TEXT="a dog") == captions(caption=" ", text="a cat") == ["a cat"]
    assert captions(captions=["a cat", " a tom "]) == captions(caption=["a cat", "", "a tom"]) == ["a cat", "a tom"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings(encoding: str) -> None:
    assert captions_of("ein Käfer".encode(encoding), {}) == [("ein Käfer", None)]
    assert captions_of(None, about_of('{"caption": "ein Käfer"}'.encode(encoding))) == [("ein Käfer", None)]


def test_json_that_python_reads_and_others_write() -> None:
    assert about_of(b'{"a": NaN, "b": -Infinity, "n": ' + b"9" * 5000 + b"}").keys() == {"a", "b", "n"}
    assert about_of(b'{"n": 12, "long": 12345678901234567890123}') == {"n": 12, "long": 12345678901234567890123.0}
    assert about_of(None) == {}


def test_what_is_no_caption_is_named() -> None:
    assert (
        reason(None, b"{}")
        == reason(None, b'{"caption": null}')
        == reason(b"  ", b'{"caption": "", "text": []}')
        == "no caption: "
    )
    assert reason(None, b'{"url": "http://x", "alt": "a cat"}') == "no caption: its fields are alt, url"
    assert reason(None, b'{"caption": 12}') == "its caption is no text: its 'caption' is a number"
    assert reason(None, b'{"TEXT": true}') == "its caption is no text: its 'TEXT' is true or false"
    assert reason(None, b'{"caption": {"en": "a cat"}}') == "its caption is no text: its 'caption' is an object"
    assert reason(None, b'{"caption": ["a cat", 3.5]}') == "its caption is no text: its 'caption' is a list with a number"
    assert reason(b"caf\xe9", None) == "its caption is no text: its txt is no UTF-8"
    assert reason(b"\xff\xfea", None) == "its caption is no text: its txt is no UTF-16"


def test_negative_captions_belong_to_captions() -> None:
    assert (
        negatives(" a dog ", "a cat")
        == negatives(["a dog"], ["a cat"])
        == negatives("a dog", txt=b"a cat")
        == [("a cat", "a dog")]
    )
    assert negatives(["a dog", None, " "], ["a", "b", "c"]) == [("a", "a dog"), ("b", None), ("c", None)]
    assert negatives(["x", None, "y"], ["a", " ", "b"]) == [("a", "x"), ("b", "y")], "blank captions take theirs with them"
    for nothing in (None, "", " ", [], [None], [None, ""]):
        assert negatives(nothing, ["a", "b"]) == [("a", None), ("b", None)]
        assert negatives(nothing, ["a", "b"], b"c") == [("c", None)]
    kind = "its negative captions are not one text for each caption"
    for found, caption, txt, why in (
        ("a dog", ["a", "b"], None, f"{kind}: 1 for 2 captions"),
        (["a dog", "a fox"], "a", None, f"{kind}: 2 for 1 captions"),
        (["x", "y"], ["a", "b"], b"a", f"{kind}: 2 for 1 captions of the txt"),
        (7, "a", None, f"{kind}: its 'negative_caption' is a number"),
        (["a dog", {}], ["a", "b"], None, f"{kind}: its 'negative_caption' is a list with an object"),
        ("a\0b", "a", None, "odd characters: its negative_caption holds a NUL: 'a\\x00b'"),
    ):
        with pytest.raises(NoPairError) as error:
            negatives(found, caption, txt)
        assert f"{error.value.kind}: {error.value.detail}" == why


def test_json_that_cannot_be_read_is_named() -> None:
    assert reason(b"a cat", b"") == "its json cannot be read: it is empty"
    assert reason(b"a cat", b'["a"]') == "its json cannot be read: it is a list, and an object is expected"
    assert reason(b"a cat", b"null") == "its json cannot be read: it is null, and an object is expected"
    assert reason(b"a cat", b'"a"') == "its json cannot be read: it is text, and an object is expected"
    assert reason(None, b'{"x": ' + b"[" * 100_000).startswith("its json cannot be read: it is nested too deeply")
    assert reason(b"a cat", b'{"url": "cut').startswith("its json cannot be read: Unterminated string")
    assert reason(None, b"\xff\xff") == "its json cannot be read: its json is no UTF-8"


@example("happy birthday \ud83c")
@example("caf\udce9")
@example("a\0b")
@given(st.text(st.characters(exclude_categories=()), max_size=5))
def test_what_cannot_be_written_is_refused(text: str) -> None:
    try:
        writable = "\0" not in text and text.encode() is not None
    except UnicodeEncodeError:
        writable = False
    if writable:
        assert require_plain(text, "caption") == text
    else:
        with pytest.raises(NoPairError) as error:
            require_plain(text, "caption")
        error.value.detail.encode()
