"""Hooks of mkdocs: the site also carries pages, images and files that lie outside ``docs/``, by the links of the repository.

A link in a page is right in the repository (``../experiments/README.md``), where tests check it; here it becomes the site's.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "experiments/README.md": "experiments/README.md",
    "docs/tour.ipynb": "tour.md",
}
"""Pages of the site that are no Markdown file in docs/, by their place in the repository."""
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
"""The target of a relative link."""


def on_files(files: Any, config: Any) -> Any:
    """Add the pages, and a copy of every file that a page links to."""
    for source, name in PAGES.items():
        files.append(File.generated(config, name, content=text_of(ROOT / source)))
    for page in [*PAGES, *(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))]:
        for target in LINK.findall(text_of(ROOT / page)):
            place = in_repository(page, target)
            path = ROOT / place
            if path.is_file() and files.get_file_from_path(in_site(place)) is None:
                files.append(File.generated(config, in_site(place), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn links between files of the repository into links between files of the site."""
    name = page.file.src_uri
    guide = f"docs/{name}"
    own = next((source for source, other in PAGES.items() if other == name), guide if (ROOT / guide).is_file() else name)

    def link(found: re.Match[str]) -> str:
        return posixpath.relpath(in_site(in_repository(own, found[1])), posixpath.dirname(name) or ".")

    return LINK.sub(link, markdown)


def in_repository(page: str, target: str) -> str:
    """Where a link of a page leads, from the root of the repository."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), target))


def in_site(place: str) -> str:
    """Where the site has a file of the repository."""
    return PAGES.get(place, place.removeprefix("docs/"))


def text_of(path: Path) -> str:
    """Markdown; of a notebook its cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = [("".join(cell["source"]), cell["cell_type"]) for cell in json.loads(text)["cells"]]
    return "\n\n".join(f"```python\n{source}\n```" if kind == "code" else source for source, kind in cells)
