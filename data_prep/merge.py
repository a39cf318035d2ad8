"""python -m data_prep merge: sets of shards of one CLIP space -> one set that links to their shards and copies none."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.command import command_line
from eclipse_pl.command_line import sentence_parser
from eclipse_pl.data.chunk import member_name
from eclipse_pl.data.manifest import MANIFEST_NAME, SCHEMA, Check, Manifest, ShardEntry
from eclipse_pl.data.remote_folder import is_url, without_query
from eclipse_pl.files import atomic_path, disk_error

if TYPE_CHECKING:
    from eclipse_pl.data.shard_set import ShardSet


def merge(sets: list[str], out: str, anyway: bool = False, made_by: str = "python -m data_prep merge") -> Manifest:
    """Make one set of all shards of several sets.

    Each shard becomes a hard link in ``out``, or a symbolic link where the file system allows no hard link. The same command
    repairs the merged set after one of the sets was repaired. The manifest is written last.

    Args:
        sets: Folders of the sets.
        out: Folder of the merged set.
        anyway: Merge sets that share pairs across splits, or that were made with different settings.
        made_by: Command that repairs the merged set, for its manifest.

    Raises:
        ValueError: The sets belong to different spaces, hold the same pairs, or are not local; or they overlap and ``anyway``
            is False.
    """
    from eclipse_pl.embed.folder import only_run, require_same_settings, write_space
    from eclipse_pl.embed.image_statistics import image_statistics

    folder = Path(out).expanduser()
    opened = open_sets(sets, out)
    placed = shards_by_name(opened)
    require_different_pairs(opened)
    print(f"Reading captions and image embeddings of {sum(map(len, opened.values())):,} pairs: splits, then statistics.")
    if (doubts := list(doubts_about(opened))) and not anyway:
        raise ValueError(f"{' '.join(doubts)} To merge the sets as they are, add --anyway.")
    manifest = joined(opened, placed, made_by)
    with only_run(folder):
        require_same_settings(folder, {"schema": SCHEMA, "merge": sets}, placed)
        with suppress(ValueError):  # a manifest of other shards must not stand beside the new links
            if Manifest.load(folder) != manifest:
                (folder / MANIFEST_NAME).unlink()
        kinds = Counter(link(Path(shards.folder) / shard.name, folder / name) for name, (shards, shard) in placed.items())
        spaces = [shards.space for shards in opened.values()]
        # The encoded empty prompt is missing where embeddings were imported.
        space = next((space for space in spaces if space.empty_embed is not None), spaces[0])
        space = replace(space, **image_statistics(folder, manifest.shards, space.dim)._asdict())
        replace(manifest, space_sha256=write_space(folder, space)).save(folder)
    for doubt in doubts:
        print(f"warning: {doubt}", file=sys.stderr)
    splits = ", ".join(f"{count} {split}" for split, count in manifest.splits.items())
    links = " and ".join(f"{count} {kind} links" for kind, count in kinds.items())
    print(f"{folder}: {manifest.pairs} pairs ({splits}) in {len(placed)} shards, {links}")
    if kinds["symbolic"]:
        print(f"The symbolic links lead to {', '.join(sets)}. Keep these folders where they are.")
    return manifest


def open_sets(sets: list[str], out: str) -> dict[str, ShardSet]:
    """Open the sets, by the names of their folders.

    Raises:
        ValueError: A set cannot be merged with the others, whatever its pairs are.
    """
    from eclipse_pl.data.shard_set import ShardSet

    if remote := next((place for place in (*sets, out) if is_url(place)), None):
        place = without_query(remote)
        raise ValueError(f"{place} is not a local folder, and only local sets can be merged. Copy it to this machine first.")
    resolved = {Path(name).expanduser().resolve(): name for name in sets}
    if len(sets) < 2 or len(resolved) < len(sets):
        raise ValueError(f"merge takes two or more different sets, not {', '.join(sets)}.")
    folder = Path(out).expanduser()
    if folder.resolve() in resolved:
        raise ValueError(f"--out {out} is one of the sets. Choose another folder: the sets stay as they are.")
    # Every byte is read if the merged set is there already: then the command is a repair, and a damaged shard must not pass.
    check: Check = "sha256" if (folder / MANIFEST_NAME).is_file() else "size"
    opened = {name: ShardSet(name, check) for name in sets}
    first, *others = opened.items()
    for name, shards in others:
        first[1].space.require_same(shards.space, f"The set {first[0]}", f"the set {name}")
    require_one_form({name: shards.manifest for name, shards in opened.items()})
    return opened


def require_one_form(manifests: dict[str, Manifest]) -> None:
    """Raise ValueError if the captions of two sets are stored in different forms, such as token states and token ids."""
    of_tokens = [member_name(field) for field in ("text_states", "text_states_int8", "token_ids")]
    forms = {}
    for name, manifest in manifests.items():
        records = (record for shard in manifest.shards for record in shard.records)
        forms[name] = {member.removesuffix(".npy") for record in records for member in record.members if member in of_tokens}
    (first, form), *others = forms.items()
    for name, other in others:
        if form and other and other != form:
            raise ValueError(
                f"{first} stores captions as {' and '.join(sorted(form))}, and {name} as {' and '.join(sorted(other))}. A set "
                "has one form: embed one of them again."
            )


def shards_by_name(opened: dict[str, ShardSet]) -> dict[str, tuple[ShardSet, ShardEntry]]:
    """The name of each shard in the merged set -> its set and its entry there.

    Shards keep their names if no two sets share one. Otherwise the number of the set is put before the name of each.
    """
    found = [(place, shards, shard) for place, shards in enumerate(opened.values()) for shard in shards.manifest.shards]
    unique = len({shard.name for *_, shard in found}) == len(found)
    return {shard.name if unique else f"{place}-{shard.name}": (shards, shard) for place, shards, shard in found}


def joined(opened: dict[str, ShardSet], placed: dict[str, tuple[ShardSet, ShardEntry]], made_by: str) -> Manifest:
    """The manifest of the merged set. ``images`` keeps the settings that all sets share."""
    manifests = [shards.manifest for shards in opened.values()]
    return Manifest(
        manifests[0].space,
        made_by,
        [replace(shard, name=name) for name, (_, shard) in placed.items()],
        images={
            name: value
            for name, value in manifests[0].images.items()
            if all(manifest.images.get(name) == value for manifest in manifests)
        },
        sources=[source for manifest in manifests for source in manifest.sources],
    )


def require_different_pairs(opened: dict[str, ShardSet]) -> None:
    """Raise ValueError if two sets hold a record of the same bytes: their pairs would count twice."""
    seen: dict[str, tuple[str, str]] = {}
    for name, shards in opened.items():
        for shard in shards.manifest.shards:
            for record in shard.records:
                other, place = seen.setdefault(record.sha256, (name, shard.name))
                if other != name:
                    raise ValueError(
                        f"{Path(other) / place} and {Path(name) / shard.name} hold the same pairs (record {record.key}). "
                        "Make one of the sets again without them."
                    )


def doubts_about(opened: dict[str, ShardSet]) -> Iterator[str]:
    """Reasons against merging these sets, each a sentence or two."""
    from data_prep.overlap import overlap
    from eclipse_pl.embed.folder import precision_of

    first, *others = opened
    manifests = {name: shards.manifest for name, shards in opened.items()}
    for name in others:
        if manifests[name].images != manifests[first].images:
            ways = [", ".join(f"{key} {value}" for key, value in manifests[one].images.items()) for one in (first, name)]
            ways = [way or "by another program" for way in ways]
            yield f"Images were read in different ways: {ways[0]} in {first}, {ways[1]} in {name}."
    stated: dict[str, str] = {}
    for name in opened:
        if precision := precision_of(Path(name).expanduser()):
            stated.setdefault(precision, name)
    if len(stated) > 1:
        computed = ", ".join(f"in {precision} in {name}" for precision, name in stated.items())
        yield f"Embeddings were computed in different precisions: {computed}."
    pooled = [name for name, manifest in manifests.items() if not manifest.tokens]
    if pooled and len(pooled) < len(opened):
        yield f"{', '.join(pooled)} has pooled embeddings only, and the other sets have token states."
    found = overlap(opened)
    for kind, counts in (("captions", found.captions), ("images", found.images)):
        for (place, other), count in counts.items():
            example = found.examples[kind, (place, other)]
            yield f"{kind} in two splits: {count:,} in {place} and in {other}, first {example!r}."
    if found.captions or found.images:
        yield "The pairs of one image or caption belong in one split: embed the sources of all sets together."


def link(shard: Path, place: Path) -> str:
    """Make ``place`` a link to ``shard``, and return its kind: "hard", or "symbolic" where no hard link is possible."""
    target = shard.resolve()
    if not (place.exists() and place.samefile(target)):
        try:
            with suppress(OSError), atomic_path(place) as partial:
                partial.hardlink_to(target)
                return "hard"
            with atomic_path(place) as partial:
                partial.symlink_to(target)
        except OSError as error:
            raise disk_error(error, place.parent) from error
    return "symbolic" if place.is_symlink() else "hard"


def main(args: list[str] | None = None) -> None:
    args = sys.argv[1:] if args is None else args
    parser = sentence_parser()(prog="python -m data_prep merge", description="Make one set of several, without a copy.")
    parser.add_argument("sets", nargs="+", type=str, help="folders of sets of shards")
    parser.add_argument("--out", required=True, type=str, help="folder of the merged set")
    parser.add_argument("--anyway", action="store_true", help="merge sets with pairs in two splits or other settings")
    options = parser.parse_args(args)
    merge(options.sets, options.out, options.anyway, command_line(merge, args))
