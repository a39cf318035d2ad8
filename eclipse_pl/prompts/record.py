"""``prompts.json``: where the prompt files of a folder came from, and with which bytes (written by `data_prep prompts`).

{"schema": 1, "suite": "compbench", "source": "https://...", "revision": "1b70...", "licence": "MIT, ...",
 "parser": "spacy-3.8.18/en_core_web_sm-3.8.0", "files": {"color_val.txt": {"source": "https://...", "sha256": "..."}, ...}}
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path

from eclipse_pl.files import json_bytes, write_atomically

SCHEMA = 1
RECORD_NAME = "prompts.json"


@dataclass(frozen=True)
class FileEntry:
    """One file of a folder of prompts."""

    source: str
    sha256: str


@dataclass
class PromptsRecord:
    """What `data_prep prompts` knows of a folder."""

    suite: str
    source: str
    revision: str = ""
    licence: str = ""
    parser: str = ""
    files: dict[str, FileEntry] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        write_atomically(folder / RECORD_NAME, json_bytes({"schema": SCHEMA, **asdict(self)}))

    @classmethod
    def load(cls, folder: Path) -> PromptsRecord | None:
        """The record of a folder; None where there is none. ValueError for a damaged or a newer one."""
        path = folder / RECORD_NAME
        if not path.is_file():
            return None
        try:
            content = dict(json.loads(path.read_text(encoding="utf-8")))
            schema = content.pop("schema")
            files = {name: FileEntry(**entry) for name, entry in content.pop("files").items()}
            record = cls(**content, files=files)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is damaged ({error}). Remove it and run `python -m data_prep prompts` again.") from error
        if schema != SCHEMA:
            raise ValueError(f"{path} has schema {schema}; this version of eclipse_pl reads {SCHEMA}. Update eclipse_pl.")
        return record

    def require(self, folder: Path, names: Iterable[str]) -> None:
        """ValueError where one of the files ``names`` is missing, or is not the one that was downloaded."""
        again = f"Run `python -m data_prep prompts --suite {self.suite} --out {folder}` again"
        for name in names:
            path = folder / name
            if not path.is_file():
                raise ValueError(f"{path} is missing. {again}.")
            if file_sha256(path) != self.files[name].sha256:
                raise ValueError(
                    f"{path} has changed since it was downloaded, so scores of its prompts cannot stand beside earlier ones. "
                    f"{again} with --accept-changed, or copy your own prompts to a folder of their own."
                )


def file_sha256(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
