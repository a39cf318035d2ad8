"""The hash of a run's config, by which a file of results knows runs of another experiment."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eclipse_pl.dotted_keys import flat, within, words_of
from eclipse_pl.launch.tasks import OPTIONS

NO_RESULT = ("run", "out", "processes", *OPTIONS)
"""Options that change no result: where a run lies, and where its work is done."""


def hash_of(config: dict[str, Any], swept: Iterable[str]) -> str:
    """``COMMON-OWN``: hashes of what all runs of a sweep have in common, and of all that this run states.

    They depend neither on the order of keys nor on where this machine keeps its files.

    Args:
        config: The options of the run that are not the default: an option that is new in the code changes no hash.
        swept: Names of the parameters of the sweep.
    """
    options = {key: portable(value) for key, value in flat(config).items() if key and not within(key, NO_RESULT)}
    swept = [".".join(words_of(name)) for name in swept]
    # a config that is swept may change every option
    common = {} if "config" in swept else {key: options[key] for key in options if not within(".".join(words_of(key)), swept)}
    return f"{short_hash(common)}-{short_hash(options)}"


def common_part(config_hash: str) -> str:
    """The first half of `hash_of`."""
    return config_hash.partition("-")[0]


def short_hash(options: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(options, sort_keys=True, default=str).encode()).hexdigest()[:8]


def portable(value: Any) -> Any:
    """A value in which an absolute path is its last part, which another machine may have elsewhere."""
    if isinstance(value, dict):
        return {key: portable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [portable(each) for each in value]
    if isinstance(value, str) and os.path.isabs(os.path.expanduser(value)):
        return Path(value).name
    return value
