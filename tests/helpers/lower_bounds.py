"""``python -m tests.helpers.lower_bounds``: the lower bound of every dependency in setup.cfg, as a constraints file of pip.

`make oldest` installs these versions. Needs nothing but the standard library.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.helpers.requirements import CONFIG, extras, name_of, required

BOUND = re.compile(r">=\s*([\w.]+)")


def lower_bounds(config: Path = CONFIG) -> dict[str, str]:
    """{package: its oldest version} of the package and of all extras.

    Raises:
        ValueError: a dependency has no lower bound.
    """
    bounds = {}
    for requirement in [*required(config), *(line for lines in extras(config).values() for line in lines)]:
        found = BOUND.search(requirement)
        if found is None:
            raise ValueError(f"{config.name}: {requirement!r} has no lower bound. Write {name_of(requirement)}>=VERSION.")
        bounds[name_of(requirement)] = found[1]
    return bounds


if __name__ == "__main__":
    for package, version in lower_bounds().items():
        print(f"{package}=={version}")
