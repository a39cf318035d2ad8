"""The names that tables use themselves, beside the names of subsets that users choose."""

from __future__ import annotations

ALL = "all"
"""The whole split, which stands among its subsets."""
ROWS = ("mean_image", "text_as_image", "ridge", "this prior", "upper_bound")
"""The rows of every latent table, in order."""


def require_subset_name(name: str) -> None:
    """Check the name of a subset of pairs.

    A run logs ``val/SUBSET/METRIC`` beside ``val/ROW/METRIC``, and the whole split is a subset itself. One of two things of
    one name would silently take the other's place.

    Raises:
        ValueError: It is ``all``, or the name of a row, or has a slash.
    """
    if name in (ALL, *ROWS) or "/" in name:
        taken = ", ".join((ALL, *ROWS))
        raise ValueError(f"the subset {name!r} cannot have this name: {taken} stand for others in tables, and / divides names")
