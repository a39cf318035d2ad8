"""python -m data_prep verify: read a set of shards to its last byte, and report its content and its errors."""

from __future__ import annotations

import mmap
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from data_prep.overlap import overlap
from eclipse_pl.command_line import sentence_parser
from eclipse_pl.data.chunk import Chunk
from eclipse_pl.data.manifest import Manifest, ShardEntry
from eclipse_pl.data.remote_folder import is_url, without_query
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.embed.folder import SETTINGS_NAME
from eclipse_pl.embed.image_statistics import image_statistics
from eclipse_pl.launch.calls import Engine
from eclipse_pl.raw.reasons import by_kind, shown

NORMALISED_WITHIN = 0.01
STATISTICS_WITHIN = 1e-3
HERE = Engine()


@dataclass(frozen=True)
class Finding:
    """One row of the table."""

    check: str
    found: str
    wrong: bool = False
    repair: str = ""
    """The command that puts it right, where there is one."""
    warning: bool = False
    """No errors, but perhaps not intended."""
    folder: str = ""
    """The set; empty where several are compared."""


def verify(folders: list[str], engine: Engine = HERE) -> list[Finding]:
    """Check sets of shards, and whether they share captions or images across splits. Nothing is ever unpickled.

    The files of the shards are read by ``engine``, a shard a call. ValueError for a folder that does not exist; whatever is
    wrong inside of one is a finding.
    """
    findings: list[Finding] = []
    sets: dict[str, ShardSet] = {}
    for folder in folders:
        if is_url(folder):
            raise ValueError(
                f"{without_query(folder)} is a URL, and `verify` reads local folders. Verify a set before you upload it; a "
                "run tests the checksum of every record that it downloads."
            )
        if not Path(folder).is_dir():
            raise ValueError(f"There is no folder {folder}. `verify` takes the folders of sets of shards.")
        of_folder, shards = _one_set(Path(folder), engine)
        findings += [replace(finding, folder=folder) for finding in of_folder]
        if shards is not None:
            sets[folder] = shards
    if sets:
        findings += _overlaps(sets)
    return findings


def _one_set(folder: Path, engine: Engine) -> tuple[list[Finding], ShardSet | None]:
    """The findings, and the open set where it can be read."""
    try:
        manifest = Manifest.load(folder)
    except ValueError as error:
        unfinished = " The set is not finished." if (folder / SETTINGS_NAME).exists() else ""
        return [Finding("manifest", f"{error}{unfinished}", wrong=True)], None
    findings = list(_files(folder, manifest, engine))
    if any(finding.wrong for finding in findings):
        return [*findings, Finding("contents", "not looked at before the shards are repaired")], None
    try:
        shards = ShardSet(folder)
        inside = list(_contents(shards))
        shards.close()
        return [*findings, *inside], shards
    except ValueError as error:
        return [*findings, Finding("reading", str(error), wrong=True, repair=manifest.made_by)], None


def _files(folder: Path, manifest: Manifest, engine: Engine) -> Iterator[Finding]:
    """Bytes of the shards, and the tars' own headers against the manifest."""
    splits = ", ".join(f"{count:,} {split}" for split, count in manifest.splits.items())
    stored = {"float16": "", "int8": " as int8 states", "tokens": " as ids"}[manifest.states]
    yield Finding(
        "manifest",
        f"{manifest.pairs:,} pairs ({splits}), {manifest.tokens:,} tokens{stored}, {len(manifest.shards)} shards",
    )
    if manifest.teacher:
        yield Finding("images", f"samples of a prior: {manifest.teacher}")
    for warning in manifest.warnings:
        yield Finding("splits", warning, warning=True)
    sound = 0
    problems = engine.each(partial(file_problem, folder), manifest.shards)
    for shard, problem in zip(manifest.shards, problems, strict=True):
        sound += problem is None
        if problem:
            yield Finding(f"shard {shard.name}", problem, wrong=True, repair=manifest.made_by)
    size = sum(shard.bytes for shard in manifest.shards) / 1e6
    yield Finding("shards", f"{sound} of {len(manifest.shards)} have the right bytes (sha256), {size:,.1f} MB in all")
    skipped = [pair for shard in manifest.shards for pair in shard.skipped]
    if skipped:
        yield Finding("skipped", f"{len(skipped):,} pairs of the source ({by_kind(skipped)}); first {skipped[0].key}")
    if cut := sum(shard.cut for shard in manifest.shards):
        yield Finding("cut", f"{cut:,} captions were longer than the context and lost their last words")


def file_problem(folder: Path, shard: ShardEntry) -> str | None:
    """The problem of a shard's file, with the records that it concerns, or None."""
    problem = shard.problem(folder) or _header_problem(folder, shard)
    return None if problem is None else problem + _damaged(folder, shard)


def _damaged(folder: Path, shard: ShardEntry) -> str:
    """Which records have other bytes than were written, where the shard is as long as it was."""
    if shard.problem(folder, "size"):
        return ""
    with (folder / shard.name).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        keys = [record.key for record in shard.records if not record.is_whole(content)]
    return f"; damaged: {', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''}" if keys else "; its records are whole"


def _header_problem(folder: Path, shard: ShardEntry) -> str | None:
    expected = {f"{record.key}.{name}": place for record in shard.records for name, place in record.members.items()}
    try:
        with tarfile.open(folder / shard.name, "r:") as tar:
            found = {member.name: (member.offset_data, member.size) for member in tar}
    except tarfile.TarError as error:
        return f"is no tar ({error})"
    differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    return f"holds the member {differing[0]} at another place than in the manifest" if differing else None


def _contents(shards: ShardSet) -> Iterator[Finding]:
    """The content of the arrays."""
    repair = shards.manifest.made_by
    nothing: list[np.ndarray] = [np.empty(0)]  # of any dtype: numpy 2.5 takes it for one of float64 otherwise
    image_norms, text_norms, lengths, matched, mismatched = (nothing.copy() for _ in range(5))
    zero: list[str] = []
    for number, entry in enumerate(shards.entries):
        shard = shards.manifest.shards[int(shards.shard_numbers[number])].name
        chunk = shards.read_chunk(number)
        if found := _record_problem(chunk):
            yield Finding(f"shard {shard}, record {entry.key}", found, wrong=True, repair=repair)
            continue
        image, text = chunk.image_embed.astype(np.float32), chunk.text_embed.astype(np.float32)
        image_norms.append(np.linalg.norm(image, axis=1))
        text_norms.append(np.linalg.norm(text, axis=1))
        lengths.append(chunk.lengths.copy())  # a view would keep the shard open
        nowhere = (image_norms[-1] == 0) | (text_norms[-1] == 0)
        zero += [key for key, found in zip(chunk.keys, nowhere, strict=True) if found]
        if not shards.space.has_captions:
            continue
        image /= np.maximum(image_norms[-1][:, None], 1e-12)
        text /= np.maximum(text_norms[-1][:, None], 1e-12)
        matched.append((image * text).sum(1))
        if len(chunk) > 1:
            mismatched.append((image * np.roll(text, 1, axis=0)).sum(1))
    norms = {"image_embed": np.concatenate(image_norms), "text_embed": np.concatenate(text_norms)}
    for name, values in norms.items():
        unit = shards.space.normalised and (name == "image_embed" or shards.space.has_captions)
        off = unit and bool((np.abs(values - 1) > NORMALISED_WITHIN).any())
        found = f"mean {values.mean():.3f}, {values.min():.3f} ... {values.max():.3f}" if len(values) else "no pair"
        yield Finding(f"norm of {name}", found + (", but the space is normalised" if off else ""), off, repair if off else "")
    if zero:
        found = f"{len(zero):,} pairs have an embedding that is zero, which has no cosine; first {shown(zero[0])}"
        yield Finding("zero vectors", found, wrong=True, repair=repair)
    yield Finding("tokens a caption", _lengths(np.concatenate(lengths), shards.space.context_length))
    pairs, others = np.concatenate(matched), np.concatenate(mismatched)
    if len(pairs) and len(others):
        doubt = (
            "" if pairs.mean() > others.mean() else ": no better than chance, as with random weights or with rows out of order"
        )
        yield Finding("cosine of image and text", f"{pairs.mean():.3f} in pairs, {others.mean():.3f} mismatched{doubt}")
    yield _space(shards)


def _record_problem(chunk: Chunk) -> str | None:
    problem = chunk.problem()
    if problem is None:
        return None
    owners = np.repeat(np.arange(len(chunk)), chunk.lengths)
    finite = np.isfinite(chunk.image_embed).all(1) & np.isfinite(chunk.text_embed).all(1)
    if chunk.text_states is not None:
        finite[owners[~np.isfinite(chunk.text_states).all(1)]] = False
    keys = [shown(key) for key, good in zip(chunk.keys, finite, strict=True) if not good]
    return problem + (f" (pairs {', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})" if keys else "")


def _lengths(lengths: np.ndarray, context_length: int) -> str:
    if not lengths.any():
        return "none: the set has pooled embeddings only"
    low, median, high = np.percentile(lengths, [0, 50, 100])
    spread = f"mean {lengths.mean():.1f}, median {median:.0f}, {low:.0f} ... {high:.0f}"
    return f"{spread}; {np.mean(lengths == context_length):.2%} fill the context of {context_length}"


def _space(shards: ShardSet) -> Finding:
    """The statistics are those of the training pairs, and everything in it is finite."""
    space = shards.space
    statistics = image_statistics(Path(shards.folder), shards.manifest.shards, space.dim)
    wrong = [name for name, tensor in space.state()[0].items() if not bool(tensor.isfinite().all())]
    largest = float(statistics.image_std.max())
    for name, counted in statistics._asdict().items():
        kept, within = getattr(space, name), STATISTICS_WITHIN * (largest**2 if name == "image_covariance" else largest)
        if name not in wrong and not (kept is not None and bool(((kept - counted).abs() <= within).all())):
            wrong.append(name)
    found = f"{space}, context {space.context_length}; empty prompt {'known' if space.empty_embed is not None else 'unknown'}"
    if wrong:
        return Finding("space", f"{found}; wrong: {', '.join(wrong)}", wrong=True, repair=shards.manifest.made_by)
    return Finding("space", f"{found}; statistics equal the data's")


def _overlaps(sets: dict[str, ShardSet]) -> Iterator[Finding]:
    found = overlap(sets)
    for kind, counts in (("captions", found.captions), ("images", found.images)):
        for (place, other), count in counts.items():
            example = found.examples[kind, (place, other)]
            yield Finding(f"{kind} in two splits", f"{count:,} in {place} and in {other}; first {example!r}", wrong=True)
        if not counts:
            yield Finding(f"{kind} in two splits", "none")
    if found.shared_keys:
        yield Finding(
            "keys", f"{found.shared_keys:,} occur in two splits with different images: the sources count from 0 each"
        )
    if len({str(shards.space.identity) for shards in sets.values()}) > 1:
        yield Finding("spaces", "differ: " + "; ".join(f"{name}: {shards.space}" for name, shards in sets.items()))


def main(args: list[str] | None = None) -> None:
    """Print the findings as a table; leave with exit code 1 if anything is wrong."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    parser = sentence_parser()(prog="python -m data_prep verify", description="Check sets of shards, each to its last byte.")
    parser.add_argument("folders", nargs="+", type=str, help="folders of sets of shards")
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="this machine (default), or a Ray cluster")
    parser.add_argument("--jobs", type=int, help="local processes that read shards (default: 1)")
    parser.add_argument("--ray_address", "--ray-address", help="a cluster whose nodes see the folders (default: one here)")
    options = parser.parse_args(sys.argv[1:] if args is None else args)
    findings = verify(options.folders, Engine(options.engine, options.jobs, options.ray_address))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    for folder in dict.fromkeys(finding.folder for finding in findings):
        table = Table("check", "found", "", title=Text(folder or "between the splits"), title_justify="left")
        for finding in findings:
            if finding.folder == folder:
                mark = "[red]wrong[/]" if finding.wrong else "[yellow]warning[/]" if finding.warning else "[green]ok[/]"
                table.add_row(Text(finding.check), Text(finding.found), mark)
        console.print(table)
    wrong = [finding for finding in findings if finding.wrong]
    if not wrong:
        return
    for command in dict.fromkeys(finding.repair for finding in wrong if finding.repair):
        console.print(f"Repair it with: {command}", markup=False, soft_wrap=True)
    if any("in two splits" in finding.check for finding in wrong):
        console.print(
            "Make the set again: pairs of one image (its bytes, or its embedding where that was imported), one caption or one "
            '"group" in their json then lie in one split, unless the source names their splits itself.',
            soft_wrap=True,
        )
    raise SystemExit(1)
