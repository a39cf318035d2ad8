"""python -m data_prep import-embeddings: existing pairs of embeddings and captions -> shards without token states."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from data_prep.command import command_line, run
from data_prep.embedding_files import USUAL_NAMES, ArrayNames, EmbeddingFiles, take
from eclipse_pl.data.chunk import Chunk, image_numbers, shared_images, without_direction
from eclipse_pl.data.manifest import SCHEMA, SPLITS, Manifest, ShardEntry, SkippedPair
from eclipse_pl.data.shards import ShardWriter
from eclipse_pl.data.together import components, numbered
from eclipse_pl.embed.folder import finish_set, forget, only_run, require_same_settings
from eclipse_pl.embedding import ClipSpace
from eclipse_pl.raw.pairs import normal_caption

SHARD_PAIRS = 65536
UNIT_WITHIN = 1e-3
"""How near to 1 all norms must lie for embeddings to count as normalised; float16 alone makes 3e-4 of it."""


def import_embeddings(
    out: str,
    image_embeds: str | None = None,
    text_embeds: str | None = None,
    captions: str | None = None,
    keys: str | None = None,
    conditions: str | None = None,
    arrays: str | None = None,
    names: ArrayNames = USUAL_NAMES,
    clip_retrieval: str | None = None,
    name: str | None = None,
    encoder: str = "unknown",
    context_length: int = 77,
    val: int | float = 0,
    test: int | float = 0,
    seed: int = 0,
    chunk: int = 1024,
    made_by: str = "python -m data_prep import-embeddings",
) -> Manifest:
    """Turn existing embeddings into a set of shards without token states: a caption is its pooled embedding alone.

    They come from --image-embeds, --text-embeds and --captions, or from --image-embeds and --conditions, or from --arrays, or
    from --clip-retrieval. Embeddings whose norms are all 1 make a normalised space, which decoders refuse.

    Args:
        out: Folder of the set of shards.
        image_embeds: Npy file, a row a pair; or safetensors or Parquet.
        text_embeds: The same of the texts.
        captions: Text file with a caption a line; .json (a list), .jsonl, .csv, .tsv, Parquet, or an npy array of strings.
        keys: Names of the pairs, in the same formats; by default the number of the row.
        conditions: Vectors that are no text embeddings, such as measurements, of any width; in the place of --text-embeds. A
            pair without --captions is called by its key.
        arrays: Npz or Parquet with all of these but conditions.
        names: Names of its arrays, or of the columns of tables, for example --names.caption text.
        clip_retrieval: Folder with img_emb/, text_emb/ and metadata/, as clip-retrieval writes it.
        name: Name of the CLIP space; by default that of the file or folder.
        encoder: The CLIP that made the embeddings, as exactly as is known: sets and priors of different encoders never meet.
        context_length: Most tokens of a caption in that CLIP.
        val: Number of pairs for validation, or a fraction of all pairs below 1. Pairs of one image, caption or key stay
            together, so that there may be fewer (or more, where the smallest group is larger).
        test: Number of pairs for testing, likewise.
        seed: Of the draw of both.
        chunk: Pairs a record.
        made_by: The command that repairs the set: this one. The manifest keeps it.
    """
    if chunk < 1 or val < 0 or test < 0:
        raise ValueError(f"chunk={chunk} must be at least 1, val={val} and test={test} at least 0.")
    if seed < 0:
        raise ValueError(f"--seed is {seed}; it must be 0 or more.")
    files = _files(image_embeds, text_embeds, captions, keys, conditions, arrays, names, clip_retrieval)
    source = Path(arrays or clip_retrieval or image_embeds or "")
    good, skipped, normalised = _good_rows(files)
    together = components(
        numbered(normal_caption(files.captions[row]) for row in good),
        numbered(files.keys[row] for row in good),
        _numbers(files.image_embed, good),
        *([_numbers(files.text_embed, good)] if files.conditions else []),
    )
    val, test = number_of_pairs(val, len(good), "val"), number_of_pairs(test, len(good), "test")
    splits = split_whole(together, val, test, seed)
    records = _records(good, splits, chunk)
    a_shard = max(1, SHARD_PAIRS // chunk)
    shards = {f"{start // a_shard:04d}.tar": records[start : start + a_shard] for start in range(0, len(records), a_shard)}
    folder = Path(out).expanduser()
    with only_run(folder):
        require_same_settings(folder, {"schema": SCHEMA, "made_by": made_by}, list(shards))
        entries: list[ShardEntry] = []
        for shard, pieces in shards.items():
            with ShardWriter(folder / shard, before=partial(forget, folder)) as writer:
                for split, rows in pieces:
                    writer.write(_chunk(files, rows), split)
                entries.append(writer.close(skipped=() if entries else skipped))
        dim, text_dim = files.image_embed[0].shape[1], files.text_embed[0].shape[1]
        space = ClipSpace(
            name=name or source.stem,
            dim=dim,
            text_width=1 if files.conditions else dim,  # nobody has token states of a condition
            context_length=context_length,
            encoder=encoder,
            normalised=normalised,
            condition_dim=text_dim if files.conditions else None,
            image_mean=torch.zeros(dim),  # measured at the end
            image_std=torch.ones(dim),
        )
        manifest = Manifest(space.identity, made_by, entries, {"val": float(val), "test": float(test)})
        manifest = finish_set(folder, space, manifest)
    counted = ", ".join(f"{count} {split}" for split, count in manifest.splits.items())
    print(f"{folder}: {manifest.pairs} pairs ({counted}), {len(skipped)} skipped; space {space}")
    for split, asked in (("val", val), ("test", test)):
        if (found := manifest.splits.get(split, 0)) != asked:
            why = f"pairs of one image, caption{', condition' * files.conditions} or key stay together"
            print(f"warning: {split} has {found} pairs instead of {asked}: {why}", file=sys.stderr)
    return manifest


def number_of_pairs(asked: int | float, pairs: int, option: str) -> int:
    """``asked`` where it is a whole number; of a fraction the nearest number of ``pairs``, one at least."""
    if isinstance(asked, int):
        return asked
    if not 0 <= asked < 1:
        raise ValueError(f"--{option} is {asked}; it must be a whole number of pairs, or a fraction of them below 1.")
    return max(1, round(asked * pairs)) if asked else 0


def split_whole(together: Int[np.ndarray, " pairs"], val: int, test: int, seed: int) -> np.ndarray:
    """The split of each pair: ``val`` and ``test`` of them, with all pairs of one number of ``together`` in one split.

    Where whole groups do not add up to a number, the split has fewer pairs; but it has a group wherever there are enough.
    """
    if val + test > len(together):
        raise ValueError(f"val={val} and test={test} are more pairs than the {len(together)} there are. Ask for fewer.")
    splits = np.full(len(together), "train", dtype="<U5")
    order = np.argsort(together, kind="stable")
    bounds = np.flatnonzero(np.diff(together[order], prepend=-1, append=-1))
    sizes = np.diff(bounds)
    drawn = np.random.default_rng(seed).permutation(len(sizes))
    left = {"test": test, "val": val}
    for number in drawn:
        if not any(left.values()):
            break
        # The first split with room for the whole group; groups that fit nowhere are for training.
        split = next((name for name, room in left.items() if sizes[number] <= room), None)
        if split is not None:
            splits[order[bounds[number] : bounds[number + 1]]] = split
            left[split] -= sizes[number]
    for split, asked in (("val", val), ("test", test)):
        training = drawn[splits[order[bounds[drawn]]] == "train"]
        if asked and not (splits == split).any() and len(training) > 1:
            number = training[sizes[training].argmin()]
            splits[order[bounds[number] : bounds[number + 1]]] = split
    return splits


def _files(
    image_embeds: str | None,
    text_embeds: str | None,
    captions: str | None,
    keys: str | None,
    conditions: str | None,
    arrays: str | None,
    names: ArrayNames,
    clip_retrieval: str | None,
) -> EmbeddingFiles:
    of_pairs = {"--image-embeds": image_embeds, "--text-embeds": text_embeds, "--captions": captions}
    given = any(of_pairs.values()) or keys is not None or conditions is not None
    if sum([given, arrays is not None, clip_retrieval is not None]) != 1:
        raise ValueError(
            "Give the embeddings in one way: --image-embeds, --text-embeds and --captions; or --image-embeds and "
            "--conditions; or --arrays; or --clip-retrieval."
        )
    if arrays is not None:
        return EmbeddingFiles.from_arrays(arrays, names)
    if clip_retrieval is not None:
        return EmbeddingFiles.from_clip_retrieval(clip_retrieval, names)
    if conditions is not None:
        if text_embeds is not None or image_embeds is None:
            wrong = "--image-embeds is missing" if image_embeds is None else "--text-embeds is given too"
            raise ValueError(f"{wrong}: --conditions stands for --text-embeds, beside --image-embeds.")
        return EmbeddingFiles.from_conditions(image_embeds, conditions, captions, keys, names)
    if absent := [option for option, value in of_pairs.items() if value is None]:
        raise ValueError(f"{' and '.join(absent)} is missing: embeddings come with {', '.join(of_pairs)}.")
    assert image_embeds is not None and text_embeds is not None and captions is not None
    return EmbeddingFiles.from_files(image_embeds, text_embeds, captions, keys, names)


def _good_rows(files: EmbeddingFiles) -> tuple[np.ndarray, list[SkippedPair], bool]:
    """Rows that can be stored, rows that are left out with their reasons, and whether the embeddings are normalised."""
    bad, second = dict(files.bad), "condition" if files.conditions else "text embedding"
    unit = {"image": True, "text": True}
    for start in range(0, len(files), SHARD_PAIRS):
        rows = np.arange(start, min(start + SHARD_PAIRS, len(files)))
        for kind, pieces in (("image", files.image_embed), ("text", files.text_embed)):
            embed = take(pieces, rows).astype(np.float32)
            with np.errstate(over="ignore"):
                finite = np.isfinite(embed.astype(np.float16)).all(1)
            lost = finite & without_direction(embed)
            what = "image embedding" if kind == "image" else second
            bad |= {int(row): f"its {what} is not finite in float16" for row in rows[~finite]}
            bad |= {int(row): f"its {what} is zero, or vanishes in float16" for row in rows[lost]}
            unit[kind] &= bool((np.abs(np.linalg.norm(embed[finite & ~lost], axis=1) - 1) < UNIT_WITHIN).all())
    good = np.array([row for row in range(len(files)) if row not in bad], dtype=np.int64)
    if not len(good):
        raise ValueError(f"The files hold no pair that can be imported: {'; '.join(sorted(set(bad.values())))}.")
    if unit["image"] != unit["text"] and not files.conditions:
        one, other = ("image", "text") if unit["image"] else ("text", "image")
        raise ValueError(
            f"The {one} embeddings are normalised and the {other} embeddings are not, so they are no pairs of one space. Give "
            "both as the encoder made them, or both divided by their norm."
        )
    return good, [SkippedPair(files.keys[row], bad[row]) for row in sorted(bad)], unit["image"]


def _numbers(pieces: list[np.ndarray], rows: Int[np.ndarray, " pairs"]) -> Int[np.ndarray, " pairs"]:
    """Numbers of the pairs' images, or conditions: equal rows of the embedding are one."""
    blocks = [rows[start : start + SHARD_PAIRS] for start in range(0, len(rows), SHARD_PAIRS)]
    return np.concatenate([np.empty(0, np.int64), *(image_numbers(take(pieces, block)) for block in blocks)])


def _records(good: np.ndarray, splits: np.ndarray, chunk: int) -> list[tuple[str, np.ndarray]]:
    """The split and the rows of each record, in the order of the rows inside each split."""
    of_split = {split: good[splits == split] for split in SPLITS}
    return [(split, rows[start : start + chunk]) for split, rows in of_split.items() for start in range(0, len(rows), chunk)]


def _chunk(files: EmbeddingFiles, rows: np.ndarray) -> Chunk:
    image_embed, text_embed = take(files.image_embed, rows), take(files.text_embed, rows)
    return Chunk(
        image_embed=image_embed,
        text_embed=text_embed,
        text_states=np.empty((0, 1 if files.conditions else text_embed.shape[1]), dtype=np.float16),
        lengths=np.zeros(len(rows), dtype=np.int16),
        captions=[files.captions[row].strip() for row in rows],
        keys=[files.keys[row] for row in rows],
        image_rows=shared_images(image_embed),
    )


def main(args: list[str] | None = None) -> None:
    args = sys.argv[1:] if args is None else args
    run(import_embeddings, args, made_by=command_line(import_embeddings, args))
