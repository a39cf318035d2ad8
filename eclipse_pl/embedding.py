"""The words every part shares: a CLIP space, an encoded caption, a batch of pairs. The one place where shapes are drawn.

B  captions in the batch          E  width of an embedding (``dim``)
C  width of ``text_embed``: E, but where conditions that are no captions have a width of their own (``condition_dim``)
T  tokens of all captions         W  width of a token state (``text_width``)

EmbeddingBatch
    image_embed      (B, E)  float   raw CLIP image embedding, not normalised
    text             TextCondition
        text_embed   (B, C)  float   raw pooled and projected text embedding, not normalised; or a condition of another kind
        text_states  (T, W)  float   last hidden states after the final layer norm, captions end to end; after their real
                                     tokens there may be rows of padding, which no caption owns
        lengths      (B,)    int64   real tokens (start ... end) of each caption; 0 where only the pooled one is known
        bounds       (2,)    int     fewest and most tokens of a caption, as numbers of the host
    negative_embed   (B, E)  float   image embedding of the scene with two attributes swapped; NaN where a pair has none
    negative_text_embed (B, C) float text embedding of the negative caption; NaN where a pair has none
    index            (B,)    int64   number of each pair in its set of shards
    group            (B,)    int64   number of each pair's image: equal, in the whole set, where the image is the same
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

PARSE: dict[str, Callable[[str], Any]] = {"str": str, "int": int, "bool": lambda value: value == "True"}
"""Readers of the fields of a space that are no tensors, by their type; files hold them as strings."""


@dataclass(frozen=True, eq=False)
class ClipSpace:
    """The CLIP of an embedding, and the statistics of its embeddings.

    Two parts belong together when their ``identity`` is equal. The statistics are those of one set of shards and do not
    enter the identity: two data sets encoded by one CLIP lie in one space.
    """

    name: str
    """How people call it: ``world``, ``ViT-L-14/openai``."""
    dim: int
    """E, width of image and text embeddings."""
    text_width: int
    """W, width of the token states."""
    context_length: int
    """Most tokens a caption can have (77 for OpenAI's CLIP)."""
    encoder: str
    """The encoder of the embeddings, to the last weight: model name and pretrained tag, or the hash of a local checkpoint."""
    normalised: bool
    """True where embeddings were divided by their norm, as clip-retrieval stores them. Decoders refuse such a space."""
    image_mean: Float[Tensor, " dim"]
    """Mean image embedding of the training pairs."""
    image_std: Float[Tensor, " dim"]
    """Standard deviation of each dimension of the training image embeddings."""
    empty_states: Float[Tensor, "tokens width"] | None = None
    """Token states of the empty prompt; None where the encoder was not at hand (imported embeddings)."""
    empty_embed: Float[Tensor, " dim"] | None = None
    """Pooled embedding of the empty prompt."""
    zero_image: Float[Tensor, " dim"] | None = None
    """Embedding of the all-zero pixel tensor, Kandinsky's negative image."""
    image_covariance: Float[Tensor, "dim dim"] | None = None
    """Covariance of the training pairs' image embeddings; kept with a set of shards, not in checkpoints."""
    condition_dim: int | None = None
    """C, width of ``text_embed`` where it is no text embedding but a condition of another kind: a measurement, features of
    another model. None where it is the CLIP's embedding of a caption, which is E wide."""

    @property
    def text_dim(self) -> int:
        """C, width of ``text_embed``."""
        return self.dim if self.condition_dim is None else self.condition_dim

    @property
    def has_captions(self) -> bool:
        """True where ``text_embed`` is an embedding of this CLIP, which can be compared with image embeddings."""
        return self.condition_dim is None

    @property
    def identity(self) -> dict[str, str | int | bool]:
        found = {f.name: getattr(self, f.name) for f in fields(self) if str(f.type).removesuffix(" | None") in PARSE}
        return {name: value for name, value in found.items() if value is not None}

    def require_captions(self, user: str, remedy: str) -> None:
        """Raise ValueError where ``text_embed`` is no text embedding. ``user`` says what needs one: "the encoder"."""
        if not self.has_captions:
            raise ValueError(f"{user} needs captions, and {self} has conditions that are no captions. {remedy}")

    def require_same(self, other: ClipSpace, ours: str, theirs: str) -> None:
        """Raise ValueError unless both are one space. ``ours`` and ``theirs`` name the parts: "the prior", "the shards"."""
        if self.identity != other.identity:
            first, second = self.identity, other.identity
            differing = [key for key in {**first, **second} if first.get(key) != second.get(key)]
            raise ValueError(
                f"{ours} and {theirs} belong to different CLIP spaces: {self} against {other} (they differ in "
                f"{', '.join(differing)}). Train the prior on shards of its own space, or encode the data again with "
                f"`python -m data_prep embed --encoder ...`."
            )

    def empty_prompt(self) -> TextCondition:
        """The encoded empty prompt, a batch of one."""
        if self.empty_states is None or self.empty_embed is None:
            raise ValueError(
                f"{self} holds no encoded empty prompt, because its embeddings were imported without their encoder. Set "
                "condition_dropout to 0 and guidance_scale to 1, or encode the data with `python -m data_prep embed`."
            )
        tokens = len(self.empty_states)
        return TextCondition(self.empty_embed[None], self.empty_states, torch.tensor([tokens]), (tokens, tokens))

    def save(self, path: str | Path) -> None:
        """Write ``space.safetensors``, in place."""
        Path(path).write_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """``space.safetensors``: equal spaces give equal bytes."""
        from safetensors.torch import save

        tensors, identity = self.state()
        if self.image_covariance is not None:
            tensors["image_covariance"] = self.image_covariance.contiguous()
        # one entry only: safetensors writes several in an order of chance
        return save(tensors, {"identity": json.dumps(identity)})

    @classmethod
    def load(cls, path: str | Path, sha256: str = "") -> ClipSpace:
        """The space in a ``space.safetensors``, whose bytes are checked if ``sha256`` is their hash."""
        if not Path(path).is_file():
            raise ValueError(
                f"There is no {path}. A set of shards is a folder with manifest.json and space.safetensors; "
                "`python -m data_prep embed` writes one."
            )
        return cls.from_bytes(Path(path).read_bytes(), path, sha256)

    @classmethod
    def from_bytes(cls, content: bytes, path: str | Path, sha256: str = "") -> ClipSpace:
        """The space in the bytes of a ``space.safetensors``, which come from ``path``.

        Raises:
            ValueError: They are no space, or ``sha256`` is given and is not their hash.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError(
                f"{path} has other bytes than were written (sha256 differs). Run the `data_prep` command that made the set "
                "again."
            )
        try:
            tensors = load(content)
            # safetensors gives no metadata of bytes in memory; a JSON header of that length stands before the tensors
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            return cls.from_state(tensors, json.loads(header.get("__metadata__", {})["identity"]))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no CLIP space ({error}). Write it again with `python -m data_prep embed`.") from error

    def state(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Tensors, but for the covariance, and everything else as strings: the part of a space that checkpoints hold."""
        names = [f.name for f in fields(self) if f.name != "image_covariance"]
        tensors = {name: value for name in names if isinstance(value := getattr(self, name), Tensor)}
        return {k: v.contiguous() for k, v in tensors.items()}, {k: str(v) for k, v in self.identity.items()}

    @classmethod
    def from_state(cls, tensors: dict[str, Tensor], metadata: dict[str, str]) -> ClipSpace:
        kinds = {f.name: str(f.type).removesuffix(" | None") for f in fields(cls)}
        values: dict[str, Any] = {name: PARSE[kinds[name]](value) for name, value in metadata.items()}
        return cls(**values | tensors)

    def __str__(self) -> str:
        conditions = "" if self.has_captions else f", conditions {self.condition_dim} wide"
        return f"{self.name} ({self.encoder}, {self.dim} wide{conditions}{', normalised' if self.normalised else ''})"


@dataclass(frozen=True, eq=False)
class TextCondition:
    """Encoded captions. ``text_states`` holds the real tokens of all captions, one caption after another."""

    text_embed: Float[Tensor, "batch text_dim"]
    text_states: Float[Tensor, "tokens width"]
    """With ``bounds`` there may be rows after those of the last caption. They are padding, and no caption owns them."""
    lengths: Int[Tensor, " batch"]
    bounds: tuple[int, int] | None = None
    """No caption has fewer or more tokens. None: whoever needs them reads ``lengths``, and a GPU makes the host wait."""

    @classmethod
    def pooled(cls, text_embed: Float[Tensor, "batch text_dim"]) -> TextCondition:
        """Pooled embeddings without token states, or conditions of another kind, as in shards of imported embeddings."""
        count, dim = text_embed.shape
        lengths = torch.zeros(count, dtype=torch.int64, device=text_embed.device)
        return cls(text_embed, text_embed.new_empty(0, dim), lengths, (0, 0))

    def __len__(self) -> int:
        return len(self.lengths)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None, non_blocking: bool = False) -> TextCondition:
        """``dtype`` applies to the embeddings; the copy is made first, so that narrow types cross the bus."""
        return TextCondition(
            self.text_embed.to(device, non_blocking=non_blocking).to(dtype),
            self.text_states.to(device, non_blocking=non_blocking).to(dtype),
            self.lengths.to(device, non_blocking=non_blocking),
            self.bounds,
        )

    def pin_memory(self) -> TextCondition:
        return replace(
            self,
            text_embed=self.text_embed.pin_memory(),
            text_states=self.text_states.pin_memory(),
            lengths=self.lengths.pin_memory(),
        )

    def read_bounds(self) -> tuple[int, int]:
        """``bounds`` from ``lengths``, for texts without; a GPU makes the host wait for them.

        Raises:
            ValueError: The lengths do not add up to the text states.
        """
        tokens = len(self.text_states)
        shortest, longest, total = torch.stack([*self.lengths.aminmax(), self.lengths.sum()]).tolist()
        if total != tokens or shortest < 0:
            raise ValueError(f"The lengths of the captions add up to {total} tokens, but there are {tokens} text states.")
        return shortest, longest

    def bucketed(self, context_length: int) -> TextCondition:
        """The same captions in one of a few shapes, so that a compiled step or a captured CUDA graph is used again.

        The number of rows becomes a multiple of the number of captions (at least of 64), so padding is less than one token for
        each. The upper bound of the lengths becomes a multiple of 8. With MSCOCO's captions, grouped by length in batches of
        64, 256 and 1024, 0.0, 0.2 and 0.6 % of a network's rows are padding; without grouping 2.9, 2.8 and 2.8 %.
        """
        shortest, longest = self.bounds or self.read_bounds()
        rows = len(self.text_states)
        states = F.pad(self.text_states, (0, 0, 0, -rows % max(len(self), 64)))
        # 2 are the tokens of CLIP's empty prompt, which `replaced` puts in place of captions: more is not worth a shape
        bounds = min(shortest, 2), min(longest + -longest % 8, context_length)
        return replace(self, text_states=states, bounds=bounds)

    def split(self) -> list[TextCondition]:
        """One condition a caption, without padding. It reads the lengths."""
        lengths = self.lengths.tolist()
        states = self.text_states[: sum(lengths)].split(lengths)
        return [
            TextCondition(embed[None], state, length[None], (len(state), len(state)))
            for embed, state, length in zip(self.text_embed, states, self.lengths, strict=True)
        ]

    def select(self, rows: Sequence[int]) -> TextCondition:
        """The captions at ``rows``, in that order; a row may stand there more than once."""
        captions = self.split()
        return TextCondition.join([captions[row] for row in rows])

    def replaced(self, rows: Bool[Tensor, " batch"], by: TextCondition) -> TextCondition:
        """The caption ``by``, a batch of one, in place of each one where ``rows`` is True.

        On a GPU, and in a compiled step, the number of rows must not depend on numbers of the device. There it stays what it
        was, and padding takes the place of the tokens that are gone; a caption that may grow has more.
        """
        lengths = torch.where(rows, by.lengths, self.lengths)
        start = torch.where(rows, len(self.text_states), self.lengths.cumsum(0) - self.lengths)
        states = torch.cat([self.text_states, by.text_states])
        tokens = bounds = None
        if self.bounds is not None and by.bounds is not None:
            (shortest, longest), (fewest, most) = self.bounds, by.bounds
            bounds = min(shortest, fewest), max(longest, most)
            if lengths.device.type != "cpu" or torch.compiler.is_compiling():
                tokens = len(self.text_states) + len(self) * max(0, most - shortest)
        states = states[token_rows(start, lengths, tokens)]
        return TextCondition(torch.where(rows[:, None], by.text_embed, self.text_embed), states, lengths, bounds)

    @staticmethod
    def join(parts: Sequence[TextCondition]) -> TextCondition:
        """Batches end to end. Padding of the parts is behind the last caption of all."""
        lengths, states = torch.cat([part.lengths for part in parts]), torch.cat([part.text_states for part in parts])
        known = [part.bounds for part in parts if part.bounds is not None]
        if known and len(parts) > 1:  # a part without bounds has no padding, and the last part's is at the end already
            before = accumulate((len(part.text_states) for part in parts), initial=0)
            starts = [first + part.lengths.cumsum(0) - part.lengths for first, part in zip(before, parts, strict=False)]
            states = states[token_rows(torch.cat(starts), lengths, len(states))]
        return TextCondition(
            torch.cat([part.text_embed for part in parts]),
            states,
            lengths,
            (min(low for low, _ in known), max(high for _, high in known)) if len(known) == len(parts) else None,
        )


@dataclass(frozen=True, eq=False)
class EmbeddingBatch:
    """Pairs of an encoded caption and its image embedding. ``captions``, ``keys`` and ``subsets``: at validation only."""

    text: TextCondition
    image_embed: Float[Tensor, "batch dim"]
    index: Int[Tensor, " batch"]
    group: Int[Tensor, " batch"] | None = None
    """None where nothing is known of it: in batches that come from no set of shards."""
    negative_embed: Float[Tensor, "batch dim"] | None = None
    negative_text_embed: Float[Tensor, "batch text_dim"] | None = None
    captions: list[str] | None = None
    keys: list[str] | None = None
    subsets: list[str] | None = None
    """Named parts of a split, reported apart: ``seen`` and ``unseen`` compositions in the world. "" where a pair has none."""

    def __len__(self) -> int:
        return len(self.image_embed)

    def to(
        self, device: torch.device | str, dtype: torch.dtype | None = torch.float32, non_blocking: bool = False
    ) -> EmbeddingBatch:
        """One copy per array; embeddings stored in float16 are widened on the device that they arrive on."""

        def copied(tensor: Tensor) -> Tensor:
            here = tensor.to(device, non_blocking=non_blocking)
            return here.to(dtype) if tensor.is_floating_point() else here

        return self._with(self.text.to(device, dtype, non_blocking), copied)

    def pin_memory(self) -> EmbeddingBatch:
        """Called by torch's DataLoader on the way to a GPU."""
        return self._with(self.text.pin_memory(), Tensor.pin_memory)

    def _with(self, text: TextCondition, change: Callable[[Tensor], Tensor]) -> EmbeddingBatch:
        """The batch with this text and every other tensor changed."""
        changed: dict[str, Any] = {name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, text=text, **changed)


def condition_of(text: TextCondition | EmbeddingBatch) -> TextCondition:
    """The encoded captions of ``text`` in float32. A batch of a loader, which holds float16, is taken as it is."""
    condition = text.text if isinstance(text, EmbeddingBatch) else text
    if condition.text_embed.dtype == condition.text_states.dtype == torch.float32:
        return condition
    return replace(condition, text_embed=condition.text_embed.float(), text_states=condition.text_states.float())


def token_rows(
    starts: Int[Tensor, " batch"], lengths: Int[Tensor, " batch"], tokens: int | None = None
) -> Int[Tensor, " tokens"]:
    """``start, start + 1, ...`` for each of the captions, one after another; 0 for the rest of ``tokens`` rows.

    Without ``tokens`` there is one row for each token, and a GPU makes the host wait for their number.
    """
    ends = lengths.cumsum(0)
    shift = starts - (ends - lengths)
    if tokens is None:
        shift = shift.repeat_interleave(lengths)
        return shift + torch.arange(len(shift), device=shift.device)
    rows = torch.arange(tokens, device=ends.device)
    caption = torch.searchsorted(ends, rows, right=True)
    return torch.where(caption < len(ends), rows + shift[caption.clamp(max=len(ends) - 1)], 0)
