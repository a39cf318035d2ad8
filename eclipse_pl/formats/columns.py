"""The column of a table that holds what is looked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def usual_column(columns: Sequence[str], usual: Collection[str], kind: str, option: str, place: str) -> str:
    """The only column with a usual name.

    Args:
        columns: The columns of the table.
        usual: Usual names, in lower case.
        kind: What the column holds, for messages: "caption".
        option: The option that names a column.
        place: The table, for messages.

    Raises:
        ValueError: No column has a usual name, or several have one.
    """
    found = list(dict.fromkeys(column for column in columns if column.strip().lower() in usual))
    if len(found) == 1:
        return found[0]
    several = f"several may hold the {kind}s ({', '.join(found)})" if found else f"none of them has a usual name of {kind}s"
    raise ValueError(f"{place} has the columns {', '.join(columns) or '(none)'}: {several}. Name it with {option} COLUMN.")
