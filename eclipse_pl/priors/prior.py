"""Prior: what turns encoded captions into image embeddings. A training rule plus a way to sample, around a network."""

from __future__ import annotations

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eclipse_pl.embedding import ClipSpace, EmbeddingBatch, TextCondition

TrainingData = list[dict[str, Any]]
"""Sets of shards in the order in which a run read them: ``folder`` as it was typed, ``sha256`` of the manifest, ``pairs``."""


class Prior(nn.Module, ABC):
    """Base class of everything that is compared. Its embeddings live in ``space``; none is ever normalised.

    Constructors that take ``weights`` to begin with end with ``open_saved(weights).fill(self)``.
    """

    space: ClipSpace
    arguments: dict[str, Any]
    """What the constructor was given, but for the space: a checkpoint keeps it, where it is plain data."""

    may_lack: tuple[str, ...] = ()
    """Beginnings of the names of weights that others' weights may lack. Such weights keep their initial values."""

    def __new__(cls, *args: Any, **options: Any) -> Prior:
        prior = super().__new__(cls)
        signature = inspect.signature(cls.__init__)
        try:
            given = signature.bind(prior, *args, **options).arguments
        except TypeError:  # the constructor reports the error; copies and pickles call no constructor
            return prior
        given = dict(list(given.items())[1:])
        for name, parameter in signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:  # such as **options, which a caller writes out
                given.update(given.pop(name, {}))
        prior.__dict__["arguments"] = given
        prior.__dict__["arguments"].pop("space", None)
        return prior

    def __init__(self, space: ClipSpace) -> None:
        super().__init__()
        self.space = space
        self.trained_on: TrainingData = []
        """Of the saved weights that it was filled with; empty where there are none, or they do not state it."""

    @property
    def trained_for(self) -> dict[str, str | int | float | bool]:
        """Options that give weights their meaning though not their shape, by the names of the constructor's arguments.

        Saved with the weights, and compared before a prior is filled with them.
        """
        return {}

    @property
    def sampling(self) -> dict[str, int | float | str]:
        """The options of the sampler that may change after construction, by the names of the constructor's arguments."""
        return {}

    @property
    def options(self) -> dict[str, Any]:
        """What makes samples of equal weights differ: the constructor's arguments as they are now, as JSON values.

        Options of training are among them, because only the class knows which of its arguments `sample` reads.
        """
        return {**plain(without_weights(self.arguments)), **self.trained_for, **self.sampling}

    @property
    def forward_passes(self) -> int | None:
        """Network forward passes that one embedding costs; None where there is no network, or the prior does not say."""
        return None

    @property
    def is_deterministic(self) -> bool:
        """Whether all samples of a caption are equal, whatever the generator."""
        return False

    @property
    def has_losses(self) -> bool:
        """Whether there is a training rule; without one `losses` raises, and an evaluation has the samples alone."""
        return True

    @property
    def compiles_whole(self) -> bool:
        """Whether torch.compile makes one graph of `losses`; false where it must leave a part of them as it is."""
        return True

    @abstractmethod
    def losses(self, batch: EmbeddingBatch) -> dict[str, Tensor]:
        """Scalars by name: ``total``, which is minimised, and every term that goes into it.

        Random numbers come from torch's default generators: a resumed run repeats an uninterrupted one where the caller keeps
        or derives their state. Ranks may communicate here in training mode, never in evaluation mode.
        """

    @abstractmethod
    def sample(
        self,
        text: TextCondition | EmbeddingBatch,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """One raw image embedding a caption.

        A list of generators, one a caption, makes each result depend on its caption and its generator alone, whatever else
        is in the batch.
        """

    def noise_for(
        self, text: TextCondition, generator: torch.Generator | list[torch.Generator] | None
    ) -> Float[Tensor, "batch dim"]:
        """`gaussian_noise` as wide as image embeddings, a row a caption; conditions that are no captions may be wider."""
        return gaussian_noise(text.text_embed.new_empty(len(text), self.space.dim), generator)

    def end_of_epoch(self) -> None:
        """Called on every rank after the last training batch of an epoch, before validation.

        A prior without trainable parameters, which collects sums over the batches instead, solves for its weights here.
        """


def without_weights(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a prior, and of a prior within it, without the weights that it began with: its own are others."""
    found = {**arguments, "weights": None} if "weights" in arguments else dict(arguments)
    inner = found.get("prior_args")
    return {**found, "prior_args": without_weights(inner)} if isinstance(inner, dict) else found


def plain(value: Any) -> Any:
    """``value`` as JSON. What is no plain data becomes the name of its class."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return f"{type(value).__module__}.{type(value).__qualname__}"


def gaussian_noise(
    like: Float[Tensor, "batch dim"], generator: torch.Generator | list[torch.Generator] | None = None
) -> Float[Tensor, "batch dim"]:
    """N(0, I) of the shape, type and device of ``like``, drawn where the generator lives and moved.

    Raises:
        ValueError: A list of generators does not have one for each row.
    """
    if isinstance(generator, list):
        if len(generator) != len(like):
            raise ValueError(f"{len(generator)} generators for {len(like)} captions: pass one a caption, or a single one.")
        return torch.stack([torch.randn(like.shape[1:], generator=one, device=one.device) for one in generator]).to(like)
    return _draw(like, generator)


def _draw(like: Tensor, generator: torch.Generator | None) -> Tensor:
    # Always drawn in float32, so that one seed gives one image whatever the precision.
    device = like.device if generator is None else generator.device
    return torch.randn(like.shape, generator=generator, device=device).to(like)


def weights_sha256(prior: Prior) -> str:
    """First 16 digits of the hash of all its tensors: equal exactly where every weight is."""
    return tensors_sha256(prior.state_dict())


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """`weights_sha256` of the prior that has these tensors, by the names that it gives them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
