"""T2I-CompBench's file names: written, and read as upstream's scripts read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eclipse_pl.prompts.image_files import image_file_name
from eclipse_pl.prompts.prompt import Prompt


def read(name: str, images_per_prompt: int = 10) -> tuple[str, int, int]:
    """Prompt, line of the prompt, and number of the image among those of its prompt."""
    text, number = name.removesuffix(".png").split("_")
    assert len(number) >= 6
    return text, *divmod(int(number), images_per_prompt)


def test_as_upstream_writes_them() -> None:
    prompt = Prompt("color/0007", "color", "a green bench and a blue bowl")
    names = [image_file_name(prompt, k) for k in range(10)]
    assert names[0] == "a green bench and a blue bowl_000070.png" and names[9] == "a green bench and a blue bowl_000079.png"
    assert read(names[3]) == ("a green bench and a blue bowl", 7, 3)
    assert image_file_name(Prompt("x/0299", "x", "It sank."), 9) == "It sank._002999.png"


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="_/\\\0\n\r"), min_size=1, max_size=40),
    st.integers(0, 5000),
    st.integers(1, 20),
    st.data(),
)
def test_a_name_is_read_as_it_was_written(text: str, line: int, images: int, data: st.DataObject) -> None:
    sample = data.draw(st.integers(0, images - 1))
    name = image_file_name(Prompt(f"a/b/{line:04d}", "a/b", text), sample, images)
    assert read(name, images) == (text, line, sample)


@pytest.mark.parametrize("wrong", ["a_b", "a/b", "a\\b", "a\nb"])
def test_what_upstream_would_not_read_back(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"Prompt x/0000 .* which a file name of T2I-CompBench cannot"):
        image_file_name(Prompt("x/0000", "x", wrong), 0)


def test_limits() -> None:
    with pytest.raises(ValueError, match="no image 10: each prompt has 10 images"):
        image_file_name(Prompt("x/0000", "x", "a cup"), 10)
    with pytest.raises(ValueError, match="too long for a file name: 261 bytes, at most 255"):
        image_file_name(Prompt("x/0000", "x", "é" * 125), 0)
