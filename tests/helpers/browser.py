"""A headless browser for tests of pages: Debian's chromium or another one of the machine, driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VARIABLE = "ECLIPSE_PL_BROWSER"
"""The path of a browser, or ``required``: then a test that finds none fails and is not skipped."""


def find_browser() -> str:
    """The path of a browser; skips the test where there is none."""
    told = os.environ.get(VARIABLE, "")
    if told not in ("", "required"):
        if shutil.which(told) is None:
            pytest.fail(f"{VARIABLE} is {told}, and there is no such program.")
        return told
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        why = f"there is no {NAMES[0]}: apt-get install chromium, or name another browser in {VARIABLE}"
        pytest.fail(why) if told else pytest.skip(why)
    return found


@contextmanager
def browser() -> Iterator[Any]:
    """A browser of playwright, which is closed at the end."""
    path = find_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # tests run as root in containers, where chromium has no sandbox
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield opened
        finally:
            opened.close()


def contrast(one: list[float], other: list[float]) -> float:
    """Contrast ratio of two colours (red, green, blue from 0 to 255), by WCAG 2.2."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: list[float]) -> float:
    """Relative luminance, by WCAG 2.2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour[:3])]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
