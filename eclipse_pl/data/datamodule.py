"""The Lightning data module over a set of shards."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from eclipse_pl.data.copies import Copies
from eclipse_pl.data.loader import EvaluationLoader, Position, TrainingLoader
from eclipse_pl.data.manifest import MANIFEST_NAME, Check
from eclipse_pl.data.one_caption import OneCaption
from eclipse_pl.data.remote_folder import is_url
from eclipse_pl.data.remote_shards import Downloads
from eclipse_pl.data.sampler import EvaluationOrder, SplitPairs, TrainingOrder
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.data.text_tower import TextTower, gather_encoded, text_tower_of
from eclipse_pl.embedding import ClipSpace, EmbeddingBatch
from eclipse_pl.encoders.encoder import Encoder


class EmbeddingDataModule(L.LightningDataModule):
    """Batches of embedding shards. Their number is equal on all ranks, and (seed, epoch) determine their order.

    Args:
        folder: Folder of the shards that ``python -m data_prep embed`` wrote, or its URL (``s3://bucket/karlo``).
        batch_size: Number of pairs in a batch of one process.
        pairs: Number of training pairs; null uses all. A smaller set is part of every larger one.
        window: Number of records whose pairs are shuffled together. A larger window mixes better and keeps more files open.
        workers: Number of processes that read training batches in advance; 0 reads in the main process.
        seed: Seed of the order of the batches; null takes the seed of the run (``seed_everything``), so that runs with
            different seeds also differ in order.
        group_by_length: Group captions with similar numbers of tokens into batches. They need less padding.
        check: Test against the manifest. "size": the size of each shard. "record": also the checksum of each record when it is
            first read. "sha256": the checksum of every shard before the run, which reads every byte.
        multiprocessing_context: Start method of the workers; null takes Python's default.
        val_batch_size: Number of pairs in a batch of validation and test; null takes ``batch_size``.
        encoder: The CLIP of shards that hold token ids (``embed --states tokens``). Its frozen text tower encodes the captions
            of every batch, in the encoder's precision. Null for shards that hold token states.
        captions: The captions of an image in an epoch of training. "all": each in a pair of its own. "one": one of them, which
            (seed, epoch) determine, so that an epoch holds every image once. Validation uses all.
        cache: Folder on a local disk where the records of a URL are kept. All processes of a node and all runs may share it.
            null takes ``~/.cache/eclipse_pl/shards``.
        cache_gb: Limit of its size, in GB; null takes 50. The least recently used records are removed first.
        ahead: Number of records of a URL that are downloaded before their use; null takes two windows.
        connections: Number of downloads of a URL at a time; null takes 8.
    """

    def __init__(
        self,
        folder: str,
        batch_size: int = 256,
        pairs: int | None = None,
        window: int = 16,
        workers: int = 1,
        seed: int | None = None,
        group_by_length: bool = True,
        check: Check = "size",
        multiprocessing_context: Literal["fork", "spawn", "forkserver"] | None = None,
        val_batch_size: int | None = None,
        encoder: Encoder | None = None,
        captions: Literal["all", "one"] = "all",
        cache: str | None = None,
        cache_gb: float | None = None,
        ahead: int | None = None,
        connections: int | None = None,
    ) -> None:
        super().__init__()
        least = {"batch_size": (batch_size, 1), "window": (window, 1), "workers": (workers, 0), "seed": (seed or 0, 0)}
        least["val_batch_size"] = (batch_size if val_batch_size is None else val_batch_size, 1)
        for name, (value, smallest) in least.items():
            if value < smallest:
                raise ValueError(f"data.{name} is {value}; it must be {smallest} or more.")
        if multiprocessing_context is not None and workers == 0:
            raise ValueError(
                f"data.multiprocessing_context is {multiprocessing_context!r}, but data.workers is 0. "
                "Set data.workers to 1 or more, or leave the context null."
            )
        options = {"cache": cache, "cache_gb": cache_gb, "ahead": ahead, "connections": connections}
        given: dict[str, Any] = {name: option for name, option in options.items() if option is not None}
        if given and not is_url(folder):
            name = next(iter(given))
            raise ValueError(
                f"data.{name} is {given[name]!r}, but data.folder {folder} is a local folder, from which nothing is "
                f"downloaded. Leave data.{name} null, or give the URL of a set of shards."
            )
        self.downloads = Downloads(window=window, **given)
        self.folder = folder
        self.batch_size = batch_size
        self.pairs = pairs
        self.window = window
        self.workers = workers
        self.seed = 0 if seed is None else seed
        self._seed_of_run = seed is None
        self.group_by_length = group_by_length
        self.check = check
        self.multiprocessing_context = multiprocessing_context
        self.val_batch_size = least["val_batch_size"][0]
        self.encoder = encoder
        self.captions = captions
        self._shards: ShardSet | None = None
        self._tower: TextTower | None = None
        self._position = Position()
        self._training_loader: TrainingLoader | None = None

    @property
    def shards(self) -> ShardSet:
        """The set of shards, opened and checked at first use. If it is missing, ``prepare_data`` may build it."""
        if self._shards is None:
            if not is_url(self.folder) and not (Path(self.folder) / MANIFEST_NAME).is_file():
                self.prepare_data()
            shards = ShardSet(self.folder, self.check, self.downloads)
            self._tower = text_tower_of(shards, self.encoder)
            self._shards = shards
        return self._shards

    @property
    def space(self) -> ClipSpace:
        """The CLIP space of the shards; the command line passes it to the prior."""
        return self.shards.space

    def setup(self, stage: str) -> None:
        """A run begins at the first batch. A checkpoint that is loaded later can change this position."""
        if stage == "fit":
            self._position = Position()
            if self._seed_of_run and self.trainer is not None:
                # All ranks need one seed. With different seeds they would repeat some pairs and miss others.
                self.seed = self.trainer.strategy.broadcast(torch.initial_seed())

    def train_dataloader(self) -> TrainingLoader:
        trainer = self.trainer
        if trainer is not None and trainer.overfit_batches:  # type: ignore[attr-defined]
            raise ValueError("trainer.overfit_batches has no effect on this data; set data.pairs to a small number instead.")
        order = self.training_order(self._world_size)
        self._close()
        self._training_loader = TrainingLoader(
            self.shards,
            order,
            self._position,
            self._rank,
            self.workers,
            self.multiprocessing_context,
            self._pin_memory,
            processed=lambda: None if trainer is None else batches_processed(trainer),
            limit=lambda: math.inf if trainer is None else trainer.num_training_batches,
            tower=self._tower,
            copies=self._copies,
        )
        return self._training_loader

    def training_order(self, processes: int) -> TrainingOrder:
        """The order of the training pairs, shared by ``processes`` processes.

        Raises:
            ValueError: There are no training pairs, or they do not fill one global batch.
        """
        pairs = self._split("train", self.pairs)
        one = self._one_caption(pairs) if self.captions == "one" else None
        return TrainingOrder(pairs, self.batch_size, processes, self.window, self.seed, self.group_by_length, one)

    def evaluation_order(self, split: str, processes: int) -> EvaluationOrder:
        """The batches of ``val`` or ``test``, shared by ``processes`` processes.

        Raises:
            ValueError: There are no such pairs, or fewer than processes.
        """
        return EvaluationOrder(self._split(split), self.val_batch_size, processes)

    def _one_caption(self, pairs: SplitPairs) -> OneCaption:
        """The images of these pairs. It reads the groups of all training records."""
        numbers = pairs.numbers(pairs.records)
        records, rows = pairs.locate(numbers)
        cuts = np.flatnonzero(np.diff(records)) + 1
        groups = [self.shards.groups(records[places[0]])[rows[places]] for places in np.split(np.arange(len(rows)), cuts)]
        return OneCaption(numbers, np.concatenate(groups))

    def val_dataloader(self) -> EvaluationLoader:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> EvaluationLoader:
        return self._evaluation_loader("test")

    def single_pass(self, pairs: int | None = None, with_states: bool = False) -> Iterator[EmbeddingBatch]:
        """The training pairs in use, once, in the order of the files, in float32. The position of the run does not change.

        The pairs are the same on every rank, for statistics and closed-form priors. At most ``pairs`` of them are used, drawn
        evenly. Without ``with_states`` no token states are read, and lengths are 0.
        """
        if pairs is not None and self.pairs is not None:
            pairs = min(pairs, self.pairs)
        wanted = self.pairs if pairs is None else min(pairs, self.shards.manifest.splits.get("train", 0))
        chosen = self._split("train", wanted)
        numbers = chosen.numbers(chosen.records)
        with self.shards.read_ahead(chosen.records[chosen.counts(chosen.records) > 0]):
            for first in range(0, len(numbers), self.batch_size):
                places = chosen.locate(numbers[first : first + self.batch_size])
                if with_states:
                    yield gather_encoded(self.shards, self._tower, places).to("cpu")
                else:
                    yield self.shards.gather(*places, with_states=False).to("cpu")

    def transfer_batch_to_device(self, batch: EmbeddingBatch, device: torch.device, dataloader_idx: int) -> EmbeddingBatch:
        """Copy each array once, in float16. The device converts it to float32. Many batches are there already (`Copies`)."""
        return batch.to(device, non_blocking=True)

    def state_dict(self) -> dict[str, Any]:
        """The position of the run, in numbers that are equal on all ranks."""
        position = self._position if self._training_loader is None else self._training_loader.position
        return {"epoch": position.epoch, "batches": position.batches, "global_batch": self._global_batch, "order": self._order}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Called by Lightning before any loader is made."""
        if self.trainer is not None and self.trainer.state.fn != "fit":
            return  # a run that only measures resumes nothing
        changed = {name: value for name, value in self._order.items() if state_dict["order"][name] != value}
        if changed:
            rank_zero_warn(
                f"The order of the batches differs from that before the checkpoint: data was {state_dict['order']} and is now "
                f"{changed}. The run resumes, but its batches differ from those of the interrupted run."
            )
        saved, ours = state_dict["global_batch"], self._global_batch
        done = state_dict["batches"] * saved
        if saved != ours:
            rank_zero_warn(
                f"The checkpoint was written with {saved} pairs in a global batch, and now there are {ours}: the run resumes "
                f"in epoch {state_dict['epoch']} after {round(done / ours) * ours} instead of {done} pairs, in another order."
            )
        self._position = Position(state_dict["epoch"], round(done / ours))

    def teardown(self, stage: str) -> None:
        self._close()

    def _close(self) -> None:
        """Stop the workers. The position stays, for checkpoints that are saved after the run and for the next loader."""
        if self._training_loader is not None:
            self._position = self._training_loader.position
            self._training_loader.close()
            self._training_loader = None

    @property
    def _order(self) -> dict[str, int | bool | str | None]:
        """All settings that the order of the pairs depends on, except the global batch."""
        return {name: getattr(self, name) for name in ("seed", "pairs", "window", "group_by_length", "captions")}

    @property
    def _rank(self) -> int:
        return 0 if self.trainer is None else self.trainer.global_rank

    @property
    def _world_size(self) -> int:
        return 1 if self.trainer is None else self.trainer.world_size

    @property
    def _global_batch(self) -> int:
        return self.batch_size * self._world_size

    @property
    def _copies(self) -> Copies | None:
        """None on a CPU, and where a text tower makes the batches on the device."""
        if self._tower is not None or not self._pin_memory or self.trainer is None:
            return None
        return Copies(self.trainer.strategy.root_device)

    @property
    def _pin_memory(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def _split(self, split: str, pairs: int | None = None) -> SplitPairs:
        records = self.shards.records(split)
        if not len(records):
            held = ", ".join(f"{name} ({count})" for name, count in self.shards.manifest.splits.items())
            option = "" if split == "train" else f" --{split} FRACTION"
            raise ValueError(
                f"{self.shards.name} has no pairs in the split {split!r}; it holds {held or 'nothing'}. Make shards with it: "
                f"`python -m data_prep embed --source ... --out FOLDER{option}`."
            )
        return SplitPairs(self.shards.record_starts, records, self.shards.lengths, pairs)

    def _evaluation_loader(self, split: str) -> EvaluationLoader:
        order = self.evaluation_order(split, self._world_size)
        return EvaluationLoader(self.shards, order, self._rank, self._pin_memory, self._tower)


def batches_processed(trainer: L.Trainer) -> int:
    """Number of training batches that the trainer has finished. A batch that it has only begun does not count."""
    return trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]
