"""What the page is made of. Every text is escaped here, at the last moment."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

from eclipse_pl.reports.tables import Row, Table


def html_table(table: Table, kind: str = "") -> str:
    hints = table.hints or [""] * len(table.header)
    header = [
        f'<th title="{escape(hint)}">{breakable(text)}</th>' if hint else f"<th>{breakable(text)}</th>"
        for text, hint in zip(table.header, hints, strict=True)
    ]
    body = [
        f'<tr class="{row.kind}"><th>{row_name(row)}</th>{"".join(cell(text, kind) for text in row.cells)}</tr>'
        for row in table.rows
    ]
    head = f"<tr><th>{breakable(table.title)}</th>{''.join(header)}</tr>"
    content = f'<table class="{kind}"><thead>{head}</thead><tbody>{"".join(body)}</tbody></table>'
    return f'<div class="scroll" tabindex="0">{content}</div>{note(table.note)}'


def row_name(row: Row) -> str:
    """A published row says so in its text, so that it does wherever it is copied to."""
    return breakable(row.name) + (" <small>published</small>" if row.kind == "published" else "")


def breakable(text: str) -> str:
    """Long names of options may go on in the next line after an underscore or a dot."""
    return re.sub(r"([_.])(?=[^\W\d])", r"\1<wbr>", escape(text))


def cell(text: str, kind: str) -> str:
    kind = {"▲": "better", "▼": "worse"}.get(text[-1:], kind)
    return f'<td class="{kind}">{escape(text)}</td>' if kind else f"<td>{escape(text)}</td>"


def tabs(group: str, panels: dict[str, str]) -> str:
    """Panels of which one is shown; no script is needed."""
    parts = []
    for at, (name, panel) in enumerate(panels.items()):
        place = f"{group}-{at}"
        parts.append(
            f'<input type="radio" name="{group}" id="{place}"{"" if at else " checked"}><label for="{place}">'
            f'{escape(name)}</label><div class="panel">{panel}</div>'
        )
    return f'<div class="tabs">{"".join(parts)}</div>'


def figures(charts: list[str]) -> str:
    return f'<div class="charts">{"".join(f"<figure>{chart}</figure>" for chart in charts if chart)}</div>'


def section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def box(title: str, sentences: Iterable[str], kind: str = "") -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<aside class="box {kind}"><strong>{escape(title)}</strong><ul>{items}</ul></aside>'


def note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>' if text else ""
