"""PriorNetwork: what diffusers' ``PriorTransformer`` computes, with its parameter names, without its padding.

A caption of n real tokens is the sequence ``[n text states] [pooled text] ([time]) [noise] [prd]``; the prediction is read
off the last token (ECLIPSE, section 3; the token order is DALL-E 2's). diffusers pads the text to 77 tokens and masks the
padding. Attention is causal and padding never attended to, so leaving it out changes nothing but the time: captions have
about 13 real tokens.

Tokens of a batch are kept *packed*, one row a token and no padding: all text tokens first, then one row a caption for each
extra token. Everything that treats tokens one by one runs on these rows. Only attention sees right-padded sequences, where
plain causal attention already keeps real tokens from looking at the padding behind them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor, nn
from torch.nn import functional as F

from eclipse_pl.embedding import TextCondition


class PriorNetwork(nn.Module):
    """The transformer of all priors. Equal to ``diffusers.PriorTransformer`` given an attention mask.

    Defaults are ECLIPSE's sizes (Table 3 of the paper): 33,143,040 numbers for ViT-L/14 and 34,193,152 for ViT-bigG/14,
    ``clip_mean`` and ``clip_std`` counted.

    Args:
        dim: E, width of pooled text embedding, noise and prediction.
        text_width: W, width of the text states. Equal to ``dim`` in every network that diffusers can hold.
        context_length: most tokens a caption can have; extra tokens take the positions behind it.
        time_embedding: add the token of the diffusion step. ECLIPSE has none.
    """

    clip_mean: Float[Tensor, "1 dim"]
    """Subtracted from embeddings to standardise them. Zero for a network that predicts raw embeddings."""
    clip_std: Float[Tensor, "1 dim"]
    """Divides embeddings to standardise them. One for a network that predicts raw embeddings."""

    def __init__(
        self,
        dim: int,
        text_width: int,
        context_length: int = 77,
        num_layers: int = 10,
        num_attention_heads: int = 16,
        attention_head_dim: int = 32,
        time_embedding: bool = False,
    ) -> None:
        super().__init__()
        sizes = {
            "num_layers": num_layers,
            "num_attention_heads": num_attention_heads,
            "attention_head_dim": attention_head_dim,
        }
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} is {size}; it must be at least 1 (ECLIPSE has 10 layers of 16 heads of 32).")
        inner = num_attention_heads * attention_head_dim
        if time_embedding and inner % 2:
            raise ValueError(f"The time embedding is half sine, half cosine: the inner width {inner} must be even.")
        self.context_length = context_length
        self.extra_tokens = 4 if time_embedding else 3
        self.encoder_hidden_states_proj = nn.Linear(text_width, inner)
        self.embedding_proj = nn.Linear(dim, inner)
        self.time_embedding = TimeEmbedding(inner) if time_embedding else None
        self.proj_in = nn.Linear(dim, inner)
        # Zero, as in diffusers and in ECLIPSE's own class; Karlo's original code drew both from N(0, 0.01).
        self.positional_embedding = nn.Parameter(torch.zeros(1, context_length + self.extra_tokens, inner))
        self.prd_embedding = nn.Parameter(torch.zeros(1, 1, inner))
        self.transformer_blocks = nn.ModuleList(Block(inner, num_attention_heads) for _ in range(num_layers))
        self.norm_out = nn.LayerNorm(inner)
        self.proj_to_clip_embeddings = nn.Linear(inner, dim)
        # Parameters in diffusers, where they are never used in `forward` and stop DistributedDataParallel; and zero there, so
        # that `post_process_latents` of a network trained on raw embeddings would return zeros.
        self.register_buffer("clip_mean", torch.zeros(1, dim))
        self.register_buffer("clip_std", torch.ones(1, dim))

    def set_statistics(self, mean: Float[Tensor, "dim"], std: Float[Tensor, "dim"]) -> None:
        """Let the network predict embeddings standardised by these (unCLIP's whitening); kept with the weights."""
        if not bool((std > 0).all()):
            raise ValueError(
                f"{int((std <= 0).sum())} dimensions never vary (standard deviation 0): they cannot be standardised."
            )
        self.clip_mean.copy_(mean)
        self.clip_std.copy_(std)

    def standardise(self, image_embed: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Raw embeddings as the network predicts them."""
        return (image_embed - self.clip_mean) / self.clip_std

    def raw(self, prediction: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """The network's output as raw embeddings: diffusers' ``post_process_latents``."""
        return prediction * self.clip_std + self.clip_mean

    def forward(
        self,
        noise: Float[Tensor, "batch dim"],
        text: TextCondition,
        time: Real[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """Predicted image embedding, standardised by ``clip_mean`` and ``clip_std``.

        Raises:
            ValueError: a caption is longer than ``context_length``, or ``lengths`` do not add up to the text states.
        """
        packing = Packing(text, self.extra_tokens, self.context_length)
        batch = len(text)
        extra = [self.embedding_proj(text.text_embed)]
        if self.time_embedding is not None:
            assert time is not None, "this network has a time token: tell it the diffusion step"
            extra.append(self.time_embedding(time))
        else:
            assert time is None, "this network has no time token: build it with time_embedding=True"
        extra += [self.proj_in(noise), self.prd_embedding[0].expand(batch, -1)]
        positions = self.positional_embedding[0]
        hidden = torch.cat(
            [self.encoder_hidden_states_proj(text.text_states) + F.embedding(packing.position, positions)]
            + [token + positions[self.context_length + number] for number, token in enumerate(extra)]
        )
        *blocks, last_block = self.transformer_blocks
        for block in blocks:
            hidden = block(hidden, packing)
        predicted: Tensor = self.proj_to_clip_embeddings(self.norm_out(last_block(hidden, packing, last_only=True)))
        return predicted


class Packing:
    """Where the rows of a packed batch lie in right-padded sequences of ``longest`` tokens.

    Rows: text tokens of all captions end to end, then the first extra token of each caption, the second of each, and so on;
    so the last tokens of all captions are the last ``batch`` rows.
    """

    def __init__(self, text: TextCondition, extra_tokens: int, context_length: int) -> None:
        lengths, tokens = text.lengths, len(text.text_states)
        # One copy to the host, and so one wait for the device, a forward pass.
        shortest, longest, total = torch.stack([*lengths.aminmax(), lengths.sum()]).tolist()
        if longest > context_length:
            raise ValueError(
                f"A caption has {longest} tokens; this network reads at most {context_length}. Encode captions with the "
                "encoder of the prior's own space: it cuts them as CLIP does."
            )
        if total != tokens or shortest < 0:
            raise ValueError(f"The lengths of the captions add up to {total} tokens, but there are {tokens} text states.")
        self.batch = len(lengths)
        self.longest = longest + extra_tokens
        device = lengths.device
        captions = torch.arange(self.batch, device=device)
        first = lengths.cumsum(0) - lengths
        caption = captions.repeat_interleave(lengths, output_size=tokens)
        self.position: Int[Tensor, "tokens"] = torch.arange(tokens, device=device) - first[caption]
        """Place of each text token in its caption."""
        start = captions * self.longest
        extra = start + lengths + torch.arange(extra_tokens, device=device)[:, None]
        self.place: Int[Tensor, "rows"] = torch.cat([start[caption] + self.position, extra.flatten()])
        """Place of each row in the flattened right-padded sequences."""
        self.real = torch.arange(self.longest, device=device) < (lengths + extra_tokens)[:, None]
        """(batch, longest): True where a right-padded sequence holds a token."""

    def pad(self, rows: Float[Tensor, "rows inner"]) -> Float[Tensor, "batch longest inner"]:
        padded = rows.new_zeros(self.batch * self.longest, rows.shape[1]).index_copy(0, self.place, rows)
        return padded.view(self.batch, self.longest, -1)

    def pack(self, padded: Float[Tensor, "batch longest inner"]) -> Float[Tensor, "rows inner"]:
        packed: Tensor = _Pack.apply(padded.flatten(0, 1), self.place)
        return packed


class _Pack(torch.autograd.Function):
    """``index_select`` of distinct rows. Its own backward adds row by row, because rows might repeat: much slower."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(place)
        ctx.shape = padded.shape
        return padded.index_select(0, place)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (place,) = ctx.saved_tensors
        return grad.new_zeros(ctx.shape).index_copy(0, place, grad), None


class Block(nn.Module):
    """Pre-norm self-attention and feed-forward, diffusers' ``BasicTransformerBlock`` without cross-attention."""

    def __init__(self, inner: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(inner)
        self.attn1 = Attention(inner, heads)
        self.norm3 = nn.LayerNorm(inner)
        self.ff = FeedForward(inner)

    def forward(
        self, hidden: Float[Tensor, "rows inner"], packing: Packing, last_only: bool = False
    ) -> Float[Tensor, "rows_out inner"]:
        """All rows, or with ``last_only`` the last token of each caption: nobody reads the others behind the last block."""
        attended = self.attn1(self.norm1(hidden), packing, last_only)
        hidden = (hidden[-packing.batch :] if last_only else hidden) + attended
        after: Tensor = hidden + self.ff(self.norm3(hidden))
        return after


class Attention(nn.Module):
    """Causal self-attention, its queries, keys and values computed for real tokens only."""

    def __init__(self, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(inner, inner)
        self.to_k = nn.Linear(inner, inner)
        self.to_v = nn.Linear(inner, inner)
        self.to_out = nn.ModuleList([nn.Linear(inner, inner)])

    def forward(self, rows: Float[Tensor, "rows inner"], packing: Packing, last_only: bool) -> Float[Tensor, "rows_out inner"]:
        key, value = (self._split(packing.pad(project(rows))) for project in (self.to_k, self.to_v))
        if last_only:
            # One query a caption sees all of its tokens, and has to be kept from the padding behind them.
            query = self._split(self.to_q(rows[-packing.batch :])[:, None])
            attended = F.scaled_dot_product_attention(query, key, value, attn_mask=packing.real[:, None, None])
            joined = self._join(attended)[:, 0]
        else:
            query = self._split(packing.pad(self.to_q(rows)))
            joined = packing.pack(self._join(F.scaled_dot_product_attention(query, key, value, is_causal=True)))
        out: Tensor = self.to_out[0](joined)
        return out

    def _split(self, padded: Float[Tensor, "batch length inner"]) -> Float[Tensor, "batch heads length head_dim"]:
        return padded.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _join(self, heads: Float[Tensor, "batch heads length head_dim"]) -> Float[Tensor, "batch length inner"]:
        return heads.transpose(1, 2).flatten(2)


class FeedForward(nn.Module):
    """Four times as wide inside, with exact GELU."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        # The middle is diffusers' dropout (0 in every published prior); it keeps the names `net.0.proj` and `net.2`.
        self.net = nn.Sequential(ProjectGELU(inner, 4 * inner), nn.Identity(), nn.Linear(4 * inner, inner))

    def forward(self, rows: Float[Tensor, "rows inner"]) -> Float[Tensor, "rows inner"]:
        out: Tensor = self.net(rows)
        return out


class ProjectGELU(nn.Module):
    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inner, outer)

    def forward(self, rows: Float[Tensor, "rows inner"]) -> Float[Tensor, "rows outer"]:
        return F.gelu(self.proj(rows))


class TimeEmbedding(nn.Module):
    """Cosines and sines of the diffusion step at geometric frequencies, through an MLP."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(inner, inner)
        self.linear_2 = nn.Linear(inner, inner)

    def forward(self, time: Real[Tensor, "batch"]) -> Float[Tensor, "batch inner"]:
        half = self.linear_1.in_features // 2
        frequencies = torch.exp(-math.log(10_000) / half * torch.arange(half, dtype=torch.float32, device=time.device))
        angles = time.float()[:, None] * frequencies
        waves = torch.cat([angles.cos(), angles.sin()], dim=1).to(self.linear_1.weight.dtype)
        out: Tensor = self.linear_2(F.silu(self.linear_1(waves)))
        return out
