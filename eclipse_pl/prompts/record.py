"""``prompts.json``: the source and the hash of each prompt file of a folder. `data_prep prompts` writes it.

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
    """The source and the hash of one prompt file."""

    source: str
    sha256: str


@dataclass
class PromptsRecord:
    """What `data_prep prompts` records about a folder."""

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
        """Return the record of a folder; None if there is none.

        Raises:
            ValueError: The record is damaged, or has another schema.
        """
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
        """Check that the files ``names`` are those that were downloaded.

        Raises:
            ValueError: A file is missing or has changed.
        """
        again = f"Run `python -m data_prep prompts --suite {self.suite} --out {folder}` again"
        for name in names:
            path = folder / name
            if not path.is_file():
                raise ValueError(f"{path} is missing. {again}.")
            if file_sha256(path) != self.files[name].sha256:
                raise ValueError(
                    f"{path} has changed since it was downloaded; scores of its prompts are not comparable to earlier ones. "
                    f"{again} with --accept-changed, or copy your own prompts to another folder."
                )


def file_sha256(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
