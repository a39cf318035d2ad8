"""``python -m data_prep world``: images of the world with captions, as webdataset tars."""

from __future__ import annotations

from data_prep.command import run
from eclipse_pl.world.pairs import write_pairs
from eclipse_pl.world.scenes import COLOURS


def main(args: list[str]) -> None:
    run(world, args)


def world(
    out: str,
    train: int = 20_000,
    val: int = 1_000,
    test: int = 1_000,
    shard_pairs: int = 1_000,
    seed: int = 0,
    colours: list[str] | None = None,
    detail: float = 1.0,
    captions: int = 1,
    train_negatives: bool = False,
) -> None:
    """Write raw pairs of the world in img2dataset's layout: 0000.tar, 0001.tar, ... with .png, .txt and .json members.

    Args:
        out: Folder for the tars.
        train: Training pairs, of compositions that are not held out.
        val: Validation pairs, half of them of held-out compositions.
        test: Test pairs, likewise.
        shard_pairs: Pairs in a tar.
        seed: Of all scenes; the splits are disjoint for whatever seeds.
        colours: Only scenes of these, four at the least; all of them if not given.
        detail: Probability with which a caption keeps each further object, each size, texture and colour, and the relation.
        captions: Captions of each image.
        train_negatives: Give training pairs negative captions too, with two attributes swapped.
    """
    paths = write_pairs(
        out,
        train,
        val,
        test,
        shard_pairs,
        seed,
        colours=colours or COLOURS,
        detail=detail,
        captions=captions,
        train_negatives=train_negatives,
    )
    print(f"{(train + val + test) * captions:,} pairs in {len(paths)} tars: {paths[0]} ... {paths[-1].name}")
