"""``python -m tests.helpers.hub_ids`` (`make check-hub`): every repository of the hub that this one names, and which are gone.

It needs a network, and loads configurations only. ``HF_ENDPOINT`` names another hub. Exit code 0: all are there; 1: some are
gone, or lack a file that is named here; 2: the hub could not be reached, so nothing is known.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from eclipse_pl.model_folder import mirror_of

ROOT = Path(__file__).parent.parent.parent
OWNERS = [
    "CompVis",
    "ECLIPSE-Community",
    "IDEA-Research",
    "Intel",
    "Qwen",
    "Salesforce",
    "XLabs-AI",
    "black-forest-labs",
    "facebook",
    "google",
    "h94",
    "kakaobrain",
    "kandinsky-community",
    "laion",
    "lambdalabs",
    "latent-consistency",
    "openai",
    "sd2-community",
    "stabilityai",
    "stable-diffusion-v1-5",
    "warp-ai",
    "xswu",
    "yuvalkirstain",
]
MODEL = re.compile(rf"(?<![\w./-])(?:{'|'.join(map(re.escape, OWNERS))})/[A-Za-z0-9][\w.-]*\w(?:@[\w.-]*\w)?(?![\w/*])")
LINK = re.compile(r"huggingface\.co/(datasets/)?((?!docs/|papers/|blog/|spaces/|datasets/)[\w-]+/[\w.-]*\w)")
CONFIGS = ("model_index.json", "config.json", "open_clip_config.json", "*/config.json", "*/scheduler_config.json")


@dataclass
class Named:
    """A repository of the hub, as it is named here."""

    name: str
    """``OWNER/NAME`` or ``OWNER/NAME@REVISION``."""
    is_dataset: bool = False
    places: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    """Files of it that parts name."""


def named_here(root: Path = ROOT) -> list[Named]:
    """Every repository that a YAML, a string of the package or a page names. Those that are known to be gone are left out."""
    found: dict[str, Named] = {}
    for path, text in texts(root):
        hits = [(name, False) for name in MODEL.findall(text)]
        hits += [(name, bool(datasets)) for datasets, name in LINK.findall(text)]
        for name, is_dataset in hits:
            if mirror_of(name.partition("@")[0]) is None:
                found.setdefault(name, Named(name, is_dataset)).places.add(str(path.relative_to(root)))
    for part in yaml_trees(root):
        if isinstance(part.get("adapter_file"), str) and part.get("adapter") in found:
            found[part["adapter"]].files.add(part["adapter_file"])
    return [found[name] for name in sorted(found, key=str.lower)]


def texts(root: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted((root / "experiments").rglob("*.yaml")):
        yield path, path.read_text(encoding="utf-8")
    for package in ("eclipse_pl", "data_prep"):
        for path in sorted((root / package).rglob("*.py")):
            constants = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
            yield path, "\n".join(value for value in constants if isinstance(value, str))
    for path in [root / "README.md", root / "experiments" / "README.md", *sorted((root / "docs").glob("*.[mi]*"))]:
        yield path, path.read_text(encoding="utf-8")


def yaml_trees(root: Path) -> Iterator[dict[str, Any]]:
    """Every mapping of every YAML of the experiments."""
    waiting = [yaml.safe_load(path.read_text()) for path in sorted((root / "experiments").rglob("*.yaml"))]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def problem(named: Named, cache: Path) -> str | None:
    """What is wrong with a repository, in words; None if it is there, and its configurations are JSON."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    repository, _, revision = named.name.partition("@")
    kind: dict[str, Any] = {"repo_type": "dataset" if named.is_dataset else "model", "revision": revision or None}
    try:
        files = [one.rfilename for one in HfApi().repo_info(repository, timeout=30, **kind).siblings or []]
        if missing := sorted(named.files - set(files)):
            return f"lacks {', '.join(missing)}"
        for file in files:
            if not named.is_dataset and any(fnmatch(file, pattern) for pattern in CONFIGS) and file.count("/") < 2:
                json.loads(Path(hf_hub_download(repository, file, cache_dir=cache, **kind)).read_text(encoding="utf-8"))
    except GatedRepoError:
        return None  # it is there, for users who have agreed to its terms
    except RepositoryNotFoundError:
        return "is gone, or its owner has made it private"
    except (RevisionNotFoundError, EntryNotFoundError) as error:
        return f"has changed ({str(error).strip().splitlines()[0]})"
    except ValueError as error:
        return f"has a configuration that is no JSON ({error})"
    return None


def main() -> int:
    gone = 0
    named = named_here()
    with tempfile.TemporaryDirectory() as cache:  # a cache of the user's would answer for a repository that is gone
        for one in named:
            try:
                wrong = problem(one, Path(cache))
            except Exception as error:  # the hub's client raises many kinds of errors
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                print(f"The hub could not be asked for {one.name} ({reason}). This command needs a network.", file=sys.stderr)
                return 2
            gone += wrong is not None
            print(f"{one.name} {wrong}: {', '.join(sorted(one.places))}" if wrong else f"{one.name} is there", flush=True)
    print(f"{len(named)} repositories are named here, {gone} of them cannot be used.")
    return 1 if gone else 0


if __name__ == "__main__":
    sys.exit(main())
