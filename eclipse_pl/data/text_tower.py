"""TextTower: the frozen text tower of a CLIP, which encodes the captions of batches whose shards hold token ids."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from eclipse_pl.data.batch_memory import bounds_of
from eclipse_pl.data.sampler import Batch
from eclipse_pl.data.shard_set import CaptionIds, ShardSet
from eclipse_pl.embedding import EmbeddingBatch, TextCondition
from eclipse_pl.encoders.encoder import Encoder, Tokens


class TextTower:
    """It runs in the process of the training loop, on each rank for its own batches, and belongs to no module.

    So it is in no checkpoint, gets no gradient and is not synchronised between ranks. Its precision is the encoder's. Pooled
    text embeddings stay those of the shards: baselines and contrastive targets are equal, whatever encodes the captions.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    @torch.no_grad()
    def __call__(self, batch: EmbeddingBatch, captions: CaptionIds) -> EmbeddingBatch:
        """The batch with its token states, in float32 on the device of the encoder."""
        tokens = Tokens.packed(torch.from_numpy(captions.ids), torch.from_numpy(captions.lengths))
        text = self.encoder.encode_tokens(tokens)
        batch = batch.to(text.text_states.device, non_blocking=True)
        bounds = bounds_of(captions.lengths)
        return replace(batch, text=TextCondition(batch.text.text_embed, text.text_states, text.lengths, bounds))


def text_tower_of(shards: ShardSet, encoder: Encoder | None) -> TextTower | None:
    """The tower for these shards; None if they hold token states.

    Raises:
        ValueError: They hold token ids and there is no encoder or that of another space, or they need none.
    """
    if shards.states != "tokens":
        if encoder is not None:
            raise ValueError(
                f"data.encoder is {encoder.tag}, but {shards.folder} holds token states, which are encoded already. Set "
                "data.encoder to null, or make a set with `python -m data_prep embed --states tokens`."
            )
        return None
    if encoder is None:
        raise ValueError(
            f"{shards.folder} holds token ids, and no encoder is given for them. Set data.encoder to that of the shards, "
            f"{shards.space.encoder}, for example data.init_args.encoder.class_path: "
            "eclipse_pl.encoders.openclip.OpenClipEncoder, or make a set with `python -m data_prep embed --states int8`."
        )
    encoder.require_space(shards.space, f"The set of shards {shards.folder}")
    return TextTower(encoder)


def gather_encoded(shards: ShardSet, tower: TextTower | None, places: Batch, **options: Any) -> EmbeddingBatch:
    """`ShardSet.gather`, in which the tower encodes the captions if the shards hold token ids."""
    if tower is None:
        return shards.gather(*places, **options)
    return tower(shards.gather(*places, with_states=False, **options), shards.gather_ids(*places))
