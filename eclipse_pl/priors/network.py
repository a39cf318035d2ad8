"""PriorNetwork: the computation of diffusers' ``PriorTransformer`` with its parameter names, without its padding.

A caption of n real tokens is the sequence ``[n text states] [pooled text] ([time]) [noise] [prd]``; the last token
gives the prediction (ECLIPSE, section 3; the token order is DALL-E 2's). diffusers pads the text to 77 tokens and masks the
padding. Attention is causal and never reads the padding, so this network gives the same result without it. It is faster,
because captions have about 13 real tokens.

Tokens of a batch are kept *packed*, one row for each token and no padding: all text tokens first, then for each extra
token one row for each caption. All layers but attention work on these rows. Attention works on right-padded sequences, where
the causal mask already hides the padding from real tokens, or in half precision on a GPU on the rows themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor, nn
from torch.nn import functional as F

from eclipse_pl.arguments import require_whole
from eclipse_pl.embedding import TextCondition
from eclipse_pl.priors.block import Block
from eclipse_pl.priors.packing import Packing, PaddedPacking
from eclipse_pl.priors.standardised import StandardisedNetwork
from eclipse_pl.priors.unpadded import UnpaddedPacking, needs_padding


class PriorNetwork(StandardisedNetwork):
    """The transformer of all priors. Equal to ``diffusers.PriorTransformer`` with an attention mask.

    Defaults are ECLIPSE's sizes (Table 3 of the paper): 33,143,040 numbers for ViT-L/14 and 34,193,152 for ViT-bigG/14,
    including ``clip_mean`` and ``clip_std``.

    Args:
        dim: Width E of noise and prediction.
        text_width: Width W of the text states. It equals ``dim`` in every network that diffusers can hold.
        context_length: Maximum number of tokens of a caption. The extra tokens take the positions after it.
        num_layers: Number of transformer blocks.
        num_attention_heads: Heads of each block.
        attention_head_dim: Width of each head.
        time_embedding: If True, add the token of the diffusion step. ECLIPSE has none.
        text_dim: Width C of the pooled text embedding, or of a condition of another kind. None: ``dim``, as in every network
            that diffusers can hold.
        interval_embedding: If True, add the embedding of a second time to that token. It is zero before training.
    """

    def __init__(
        self,
        dim: int,
        text_width: int,
        context_length: int = 77,
        num_layers: int = 10,
        num_attention_heads: int = 16,
        attention_head_dim: int = 32,
        time_embedding: bool = False,
        text_dim: int | None = None,
        interval_embedding: bool = False,
    ) -> None:
        super().__init__(dim)
        sizes = {
            "num_layers": num_layers,
            "num_attention_heads": num_attention_heads,
            "attention_head_dim": attention_head_dim,
        }
        for name, size in sizes.items():
            require_whole(name, size, 1, " (ECLIPSE has 10 layers of 16 heads of 32)")
        inner = num_attention_heads * attention_head_dim
        if time_embedding and inner % 2:
            raise ValueError(f"The time embedding is half sine, half cosine: the inner width {inner} must be even.")
        self.context_length = context_length
        self.heads = num_attention_heads
        self.extra_tokens = 4 if time_embedding else 3
        self.encoder_hidden_states_proj = nn.Linear(text_width, inner)
        self.embedding_proj = nn.Linear(dim if text_dim is None else text_dim, inner)
        self.time_embedding = TimeEmbedding(inner) if time_embedding else None
        self.interval_embedding = TimeEmbedding(inner) if interval_embedding else None
        if self.interval_embedding is not None:
            nn.init.zeros_(self.interval_embedding.linear_2.weight)
            nn.init.zeros_(self.interval_embedding.linear_2.bias)
        self.proj_in = nn.Linear(dim, inner)
        # Zero, as in diffusers and in ECLIPSE's class. Karlo's code draws both from N(0, 0.01).
        self.positional_embedding = nn.Parameter(torch.zeros(1, context_length + self.extra_tokens, inner))
        self.prd_embedding = nn.Parameter(torch.zeros(1, 1, inner))
        self.transformer_blocks = nn.ModuleList(Block(inner, num_attention_heads) for _ in range(num_layers))
        self.norm_out = nn.LayerNorm(inner)
        self.proj_to_clip_embeddings = nn.Linear(inner, dim)

    def forward(
        self,
        noise: Float[Tensor, "batch dim"],
        text: TextCondition,
        time: Real[Tensor, " batch"] | None = None,
        interval: Real[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """Predicted image embedding, standardised by ``clip_mean`` and ``clip_std``.

        Raises:
            ValueError: A caption is longer than ``context_length``, or ``lengths`` do not add up to the text states.
        """
        kind = PaddedPacking if self._needs_padding(noise.device) else UnpaddedPacking
        packing = kind(text, self.extra_tokens, self.context_length)
        rows = torch.cat([*self._text_rows(text, packing), *self._input_tokens(noise, time, interval).unbind(1)])
        hidden = packing.arranged(rows)
        *blocks, last_block = self._blocks
        for block in blocks:
            hidden = block(hidden, packing)
        return self._read(last_block(hidden, packing, last_only=True))

    def prefix(self, text: TextCondition) -> Prefix:
        """Keys and values of the tokens of the captions.

        Attention is causal, so they depend on neither time nor noise. A sampler of many steps computes them once.
        """
        packing = PaddedPacking(text, 1, self.context_length)
        hidden = torch.cat(self._text_rows(text, packing))
        keys, values = [], []
        for block in self._blocks:
            key, value = block.keys_and_values(hidden, packing)
            keys.append(key[: packing.batch])
            values.append(value[: packing.batch])
            if block is not self.transformer_blocks[-1]:
                hidden = block(hidden, packing, known=(key, value))
        tokens = self.extra_tokens - 1
        causal = torch.ones(tokens, tokens, dtype=torch.bool, device=hidden.device).tril()
        real = packing.real[: packing.batch, None, None].expand(-1, 1, tokens, -1)
        return Prefix(keys, values, torch.cat([real, causal.expand(len(text), 1, -1, -1)], dim=3))

    def continue_prefix(
        self,
        noise: Float[Tensor, "batch dim"],
        prefix: Prefix,
        time: Real[Tensor, " batch"] | None = None,
        interval: Real[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """`forward` for captions whose `prefix` is known. The result is the same, at the cost of the extra tokens alone."""
        tokens = self._input_tokens(noise, time, interval)
        *blocks, last_block = zip(self._blocks, prefix.keys, prefix.values, strict=True)
        for block, key, value in blocks:
            tokens = block.extend(tokens, key, value, prefix.visible)
        block, key, value = last_block
        return self._read(block.extend(tokens, key, value, prefix.visible, last_only=True)[:, 0])

    def _needs_padding(self, device: torch.device) -> bool:
        weight = self.proj_in.weight
        narrow = device.type != "meta" and torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if narrow else weight.dtype
        return needs_padding(device, dtype, weight.shape[0] // self.heads)

    def draws(self, noise: Float[Tensor, "draws batch dim"], text: TextCondition) -> Float[Tensor, "draws batch dim"]:
        """`forward` for several noises of each caption, with gradients to all. The tokens of the captions are computed once.

        The tokens of all draws follow the caption in one sequence; the mask hides each draw from the others.
        """
        assert self.time_embedding is None, "draws are for networks without a time token"
        prefix, count = self.prefix(text), len(noise)
        tokens = torch.cat([self._input_tokens(one, None) for one in noise], dim=1)
        each = tokens.shape[1] // count
        before = prefix.visible[:, :, :1, :-each].expand(-1, 1, count * each, -1)
        causal = torch.ones(each, each, dtype=torch.bool, device=noise.device).tril()
        own = torch.block_diag(*[causal] * count).bool().expand(len(text), 1, -1, -1)
        visible = torch.cat([before, own], dim=3)
        for block, key, value in zip(self._blocks, prefix.keys, prefix.values, strict=True):
            tokens = block.extend(tokens, key, value, visible)
        return self._read(tokens[:, each - 1 :: each].flatten(0, 1)).unflatten(0, (-1, count)).transpose(0, 1)

    @property
    def _blocks(self) -> list[Block]:
        return cast("list[Block]", list(self.transformer_blocks))

    def _text_rows(self, text: TextCondition, packing: Packing) -> list[Float[Tensor, "rows inner"]]:
        """Token states of all captions, one caption after another, then one row of the pooled embedding for each caption."""
        positions = self.positional_embedding[0]
        states = text.text_states
        if not len(states):  # of pooled conditions, whose empty states may have any width
            states = states.new_empty(0, self.encoder_hidden_states_proj.in_features)
        states = self.encoder_hidden_states_proj(states) + F.embedding(packing.position, positions)
        return [states, self.embedding_proj(text.text_embed) + positions[self.context_length]]

    def _input_tokens(
        self,
        noise: Float[Tensor, "batch dim"],
        time: Real[Tensor, " batch"] | None,
        interval: Real[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch tokens inner"]:
        """The tokens after the caption: ([time]) [noise] [prd]."""
        tokens = [self.proj_in(noise), self.prd_embedding[0].expand(len(noise), -1)]
        if self.time_embedding is not None:
            assert time is not None, "this network has a time token: pass the diffusion step"
            token = self.time_embedding(time)
            if self.interval_embedding is not None:
                assert interval is not None, "this network reads a second time: pass the interval"
                token = token + self.interval_embedding(interval)
            tokens.insert(0, token)
        else:
            assert time is None, "this network has no time token: build it with time_embedding=True"
        return torch.stack(tokens, dim=1) + self.positional_embedding[0, self.context_length + 1 :]

    def _read(self, last_token: Float[Tensor, "batch inner"]) -> Float[Tensor, "batch dim"]:
        predicted: Tensor = self.proj_to_clip_embeddings(self.norm_out(last_token))
        return predicted


@dataclass(frozen=True, eq=False)
class Prefix:
    """Keys and values of the caption's tokens in every block, and the tokens that each later token may see."""

    keys: list[Float[Tensor, "batch heads longest head_dim"]]
    values: list[Float[Tensor, "batch heads longest head_dim"]]
    visible: Bool[Tensor, "batch 1 tokens seen"]

    def select(self, rows: Int[Tensor, " rows"]) -> Prefix:
        """The captions at ``rows``, in that order; ``rows`` may repeat a row."""
        keys, values = ([tensor[rows] for tensor in tensors] for tensors in (self.keys, self.values))
        return Prefix(keys, values, self.visible[rows])


class TimeEmbedding(nn.Module):
    """Cosines and sines of the diffusion step at geometric frequencies, through an MLP."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(inner, inner)
        self.linear_2 = nn.Linear(inner, inner)

    def forward(self, time: Real[Tensor, " batch"]) -> Float[Tensor, "batch inner"]:
        half = self.linear_1.in_features // 2
        frequencies = torch.exp(-math.log(10_000) / half * torch.arange(half, dtype=torch.float32, device=time.device))
        angles = time.float()[:, None] * frequencies
        waves = torch.cat([angles.cos(), angles.sin()], dim=1).to(self.linear_1.weight.dtype)
        out: Tensor = self.linear_2(F.silu(self.linear_1(waves)))
        return out
