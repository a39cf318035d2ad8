"""python -m data_prep prompts: a published suite or a file of prompts -> a folder with hashes, every prompt read."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from data_prep.command import run
from data_prep.download import MissingFileError, fetch, is_url
from data_prep.upstream import UPSTREAMS
from eclipse_pl.files import write_atomically
from eclipse_pl.formats.text_file import decoded, lines_of
from eclipse_pl.prompts.load import load_prompts
from eclipse_pl.prompts.parser import Parser
from eclipse_pl.prompts.parsing import cache_path
from eclipse_pl.prompts.prompt import PromptSet
from eclipse_pl.prompts.prompt_table import SUFFIXES
from eclipse_pl.prompts.record import RECORD_NAME, FileEntry, PromptsRecord, file_sha256

STAGING = ".download"
"""Folder inside ``out`` where whole files wait until all are there and every prompt of them was parsed."""
CONTEXT = 77
"""Tokens that the CLIPs of published priors read, start and end included."""
SHOWN = 10
"""Number of warnings that are printed."""


def prompts(
    suite: str,
    out: str,
    source: str = "",
    revision: str = "",
    accept_changed: bool = False,
    parser: Callable[[], Parser] | None = None,
) -> None:
    """Download prompts (or copy them from a folder), check them, and write down where they came from.

    An interrupted run resumes after the last whole file. Files that changed since the last run are refused.

    Args:
        suite: ``compbench``, ``geneval``, ``dpg``, ``dsg``, ``geneval2``, ``genai_bench``, or a file or URL of prompts
            (.txt: one a line; .csv, .tsv, .jsonl: a column Prompt).
        out: Folder for the files and prompts.json.
        source: Folder or URL of a folder that holds the suite's files by upstream's names; {revision} in it is replaced.
        revision: Commit of the upstream repository, instead of the one that this version of eclipse_pl was tested with.
        accept_changed: Take files that differ from those of the last run, or in their number of prompts from upstream's.
        parser: Finds the noun phrases, such as eclipse_pl.prompts.spacy_parser.SpacyParser. By default, the parses of
            T2I-CompBench's prompts come with the package, GenEval's have their own grammar, spaCy parses the prompts of a
            file, and the other suites need none.
    """
    chosen = parser() if parser else None  # before anything is downloaded
    folder = Path(out).expanduser()
    staging = folder / STAGING
    record, places = plan(suite, source, revision)
    before = PromptsRecord.load(folder)
    if before is not None and before.suite != record.suite:
        raise ValueError(f"{folder} holds prompts of the suite {before.suite!r}. Choose another folder for {record.suite!r}.")
    earlier = [(where, known) for where in (staging, folder) if (known := PromptsRecord.load(where))]
    absent = []
    for name, place in places.items():
        try:
            content = _kept(name, place, earlier) or fetch(place)
        except MissingFileError:
            if suite not in UPSTREAMS or name not in UPSTREAMS[suite].optional:
                raise
            absent.append(name)
            continue
        _check(name, place, content, suite, pinned=not (source or revision), accept_changed=accept_changed)
        if not accept_changed:
            _require_unchanged(folder / name, place, before.files.get(name) if before else None, content)
        staging.mkdir(parents=True, exist_ok=True)
        write_atomically(staging / name, content)
        record.files[name] = FileEntry(place, sha256(content).hexdigest())
        record.save(staging)
    for path in staging.iterdir():  # of an earlier run that asked for something else
        if path.name not in {RECORD_NAME, *record.files}:
            path.unlink()
    try:
        found = load_prompts(staging, record.suite, parser=chosen)
    except ValueError as error:  # of a file that lies at its place, not in the folder where it waits
        reason = str(error)
        for name, place in places.items():
            reason = reason.replace(str(staging / name), place)
        raise ValueError(reason) from error
    _check_count(found, record, accept_changed)
    record.parser = found.parser
    record.save(staging)
    _move(staging, folder, before)
    counts = ", ".join(f"{category} {sum(prompt.category == category for prompt in found)}" for category in found.categories)
    asked = sum(len(prompt.questions) for prompt in found)
    means = [f"{asked:,} questions"] * bool(asked) + [f"parsed by {found.parser}"] * bool(found.parser)
    print(", ".join([f"{folder}: {len(found):,} prompts ({counts})", *means, f"sha256 {found.sha256[:12]}"]))
    if record.licence:
        print(f"Licence of the prompts: {record.licence}")
    if cut := cut_by_clip([prompt.text for prompt in found]):
        print(
            f"Prompts longer than the {CONTEXT} tokens that CLIP reads: {cut:,} of {len(found):,}. "
            "Priors do not see their ends."
        )
    if absent:
        print(f"Done without {', '.join(absent)}: not at the source, and only needed to tell these parts apart.")
    for _, reason in found.failed[:SHOWN]:
        print(f"warning: {reason}", file=sys.stderr)
    if len(found.failed) > SHOWN:
        print(f"warning: the same of {len(found.failed) - SHOWN:,} more prompts", file=sys.stderr)


def plan(suite: str, source: str, revision: str) -> tuple[PromptsRecord, dict[str, str]]:
    """The record to be, and {name of a file: its URL or path}. ValueError for options that contradict each other."""
    if suite not in UPSTREAMS:
        if source or revision:
            raise ValueError(f"--suite {suite} is itself the file to read: leave out --source and --revision.")
        name = re.split(r"[?#]", suite)[0].rpartition("/")[2] if is_url(suite) else Path(suite).name
        if not name.lower().endswith(SUFFIXES):
            raise ValueError(
                f"--suite {suite} is none of {', '.join(UPSTREAMS)} and no file or URL of prompts, which ends in "
                f"{', '.join(SUFFIXES)}."
            )
        return PromptsRecord("file", suite), {name: suite}
    upstream = UPSTREAMS[suite]
    folder = source or upstream.source
    if revision and "{revision}" not in folder:
        raise ValueError(f"--source {source} has no {{revision}} in it, so --revision {revision} would say nothing. Drop one.")
    revision = revision or ("" if "{revision}" not in folder else upstream.revision)
    folder = folder.replace("{revision}", revision).rstrip("/")
    if not is_url(folder) and not Path(folder).is_dir():
        raise ValueError(f"There is no folder {folder}. --source is a folder or the URL of one.")
    places = {name: f"{folder}/{name}" for name in (*upstream.files, *upstream.optional)}
    return PromptsRecord(suite, folder, revision, upstream.licence), places


def cut_by_clip(texts: list[str]) -> int:
    """Return how many texts are longer than CLIP's context, start and end token included."""
    long = [text for text in texts if len(text.encode()) > CONTEXT - 2]  # a token has a byte or more
    if not long:
        return 0
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    return sum(len(tokenizer.encode(text)) > CONTEXT - 2 for text in long)


def main(args: list[str]) -> None:
    run(prompts, args)


def _kept(name: str, place: str, earlier: list[tuple[Path, PromptsRecord]]) -> bytes | None:
    """The file as an earlier run downloaded it, where its URL names a commit and so cannot mean another file today."""
    if not re.search(r"/[0-9a-f]{40}/", place):
        return None
    for folder, record in earlier:
        path, entry = folder / name, record.files.get(name)
        if entry is not None and entry.source == place and path.is_file() and file_sha256(path) == entry.sha256:
            return path.read_bytes()
    return None


def _check(name: str, place: str, content: bytes, suite: str, pinned: bool, accept_changed: bool) -> None:
    """ValueError where the content is not the file that was asked for."""
    text = decoded(content, place)
    if re.match(r"\s*<(!doctype|html|\?xml)", text, re.IGNORECASE):
        raise ValueError(f"{place} is a web page, not a file of prompts. On GitHub, take the address of the raw file.")
    upstream = UPSTREAMS.get(suite)
    if upstream is None:
        return
    digest, lines = sha256(content).hexdigest(), len(lines_of(text, place))
    if pinned and digest != upstream.sha256.get(name, digest):
        raise ValueError(
            f"{place} has sha256 {digest}, not {upstream.sha256[name]} as this commit of upstream has. A proxy or a mirror "
            "may have changed the file; it was not kept."
        )
    if name in upstream.lines and lines != upstream.lines[name] and not accept_changed:
        raise ValueError(
            f"{place} has {lines} lines, {name} of upstream has {upstream.lines[name]}. Check --source; --accept-changed "
            "takes a set of another size."
        )


def _check_count(found: PromptSet, record: PromptsRecord, accept_changed: bool) -> None:
    """ValueError where the set has not as many prompts as upstream's."""
    known = UPSTREAMS[record.suite].prompts if record.suite in UPSTREAMS else None
    if known is not None and len(found) != known and not accept_changed:
        raise ValueError(
            f"{record.source} has {len(found):,} prompts, {record.suite} of upstream has {known:,}. Check --source; "
            "--accept-changed takes a set of another size."
        )


def _require_unchanged(path: Path, place: str, known: FileEntry | None, content: bytes) -> None:
    """ValueError where the file changed at its source since the last run, or on this machine."""
    digest = sha256(content).hexdigest()
    if known is not None and known.sha256 != digest:
        raise ValueError(
            f"{place} has changed since the last run: its sha256 was {known.sha256} and is {digest}. Scores from before and "
            f"after would not be of the same prompts, so {path} stays as it was; --accept-changed takes the new one."
        )
    if path.is_file() and file_sha256(path) != digest:
        raise ValueError(
            f"{path} differs from {place}: it was changed on this machine, or comes from somewhere else. "
            "Choose another folder; --accept-changed overwrites it."
        )


def _move(staging: Path, folder: Path, before: PromptsRecord | None) -> None:
    """Put the finished set in its place, the record last: until then the folder is whole in its old or its new state, or its
    files do not fit its record, which loading the set reports."""
    new = {path.name for path in staging.iterdir()}
    for name in set(before.files if before else ()) - new:
        for path in (folder / name, cache_path(folder / name)):
            path.unlink(missing_ok=True)
    for name in sorted(new, key=lambda name: name == RECORD_NAME):
        os.replace(staging / name, folder / name)
    shutil.rmtree(staging)
