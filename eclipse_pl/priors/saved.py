"""SavedPrior: a prior in files. It can be built, or its weights can be loaded into another prior."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from eclipse_pl.embedding import ClipSpace
from eclipse_pl.priors.named_class import build_named
from eclipse_pl.priors.prior import Prior, TrainingData

WHITENING = "unwhitening"
"""The buffer that only a network of whitened embeddings has."""


@runtime_checkable
class SpaceMaker(Protocol):
    """The part of an encoder that builds a prior whose files do not name its space."""

    def space(self, image_mean: Float[Tensor, " dim"], image_std: Float[Tensor, " dim"]) -> ClipSpace: ...


class SavedPrior(ABC):
    """One prior in files. `open_saved` detects its kind."""

    source: str
    """Its folder, file or hub id, as the user wrote it."""
    dim: int
    """E, width of its embeddings."""
    space: ClipSpace | None
    """None if the files do not name the CLIP."""
    trained_for: Mapping[str, Any]
    """`Prior.trained_for` of the prior that was saved; empty if the files do not state it."""
    training_data: TrainingData
    """The sets of shards that the weights were trained on; empty if the files do not state it."""

    @property
    @abstractmethod
    def part(self) -> dict[str, Any]:
        """``class_path`` and ``init_args`` of the prior that was saved, as in a config."""

    @property
    @abstractmethod
    def stated_in(self) -> str:
        """The file that `part` is read from, for errors."""

    @abstractmethod
    def load_into(self, prior: Prior) -> None:
        """Copy the weights.

        Raises:
            ValueError: The weights belong to another architecture, or are not finite.
        """

    def build(self, encoder: SpaceMaker | None = None) -> Prior:
        """The prior that was saved, on the CPU, in training mode.

        Args:
            encoder: The encoder of the prior's CLIP. Needed only if ``space`` is None.

        Raises:
            ValueError: The files name no prior, or a prior that does not match the weights.
        """
        space = self.space
        if space is None:
            if encoder is None:
                raise ValueError(f"{self.source} does not name its CLIP. Pass the encoder.")
            space = encoder.space(torch.zeros(self.dim), torch.ones(self.dim))
        prior = build_named(self.part, (Prior,), self.stated_in, space=space)
        self._require_same_rule(prior)
        self.load_into(prior)
        prior.trained_on = self.training_data
        return prior

    def fill(self, prior: Prior) -> None:
        """Load the saved weights into ``prior``.

        Raises:
            ValueError: The weights belong to another architecture or space, or were trained for another rule.
        """
        if self.space is not None:
            prior.space.require_same(self.space, "the prior", f"the weights {self.source}")
        self._require_same_rule(prior)
        wanted = standardised(prior)
        self.load_into(prior)
        if (found := standardised(prior)) != wanted:
            what = "raw" if found == "none" else "standardised"
            raise ValueError(f"The weights {self.source} predict {what} embeddings: set the prior's standardise to {found}.")
        prior.trained_on = self.training_data

    @staticmethod
    def _completed(prior: Prior, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``tensors``, with the weights of the prior that they may lack."""
        own = {key: value for key, value in prior.state_dict().items() if key.startswith(prior.may_lack)}
        return {**own, **tensors}

    def _require_same_rule(self, prior: Prior) -> None:
        require_same_rule(prior, self.trained_for, f"The weights {self.source}")


def standardised(prior: Prior) -> str:
    return str(getattr(getattr(prior, "network", None), "standardised", "none"))


def require_same_rule(prior: Prior, trained_for: Mapping[str, Any], name: str) -> None:
    """Raise ValueError if the weights of ``name`` were trained with a rule that ``prior`` does not have."""
    ours = prior.trained_for
    other = [key for key in ours if key in trained_for and not still_means(key, trained_for[key], ours[key])]
    if other:
        theirs, own = (", ".join(f"{key} {values[key]}" for key in other) for values in (trained_for, ours))
        raise ValueError(
            f"{name} were trained with {theirs}, and the prior has {own}: there they have another meaning. "
            f"Set the prior's {', '.join(other)} to what the weights were trained with."
        )


def still_means(option: str, trained: Any, own: Any) -> bool:
    """Whether weights trained with one value of an option of `Prior.trained_for` keep their meaning with another."""
    # a network that was trained on Gaussian noise was trained around zero, too; one without noise never learned to read it
    return bool(trained == own) or (option, trained, own) == ("noise", "gaussian", "zero")


def require_same_weights(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], name: str) -> None:
    """Raise ValueError, naming keys, unless ``theirs`` (of ``name``) match the tensors of ``ours``."""
    whitened = [any(key.endswith(WHITENING) for key in tensors) for tensors in (ours, theirs)]
    if whitened[0] != whitened[1]:
        what, remedy = ("whitened", "full") if whitened[1] else ("no whitened", "none or diagonal")
        raise ValueError(f"{name} predict {what} embeddings: set the prior's standardise to {remedy}.")
    missing = sorted(ours.keys() - theirs.keys())
    unknown = sorted(theirs.keys() - ours.keys())
    reshaped = sorted(key for key in ours.keys() & theirs.keys() if ours[key].shape != theirs[key].shape)
    parts = [
        f"{len(keys)} {what}, such as {keys[0]}"
        for what, keys in (("missing", missing), ("unknown", unknown), ("of another shape", reshaped))
        if keys
    ]
    if reshaped:
        parts[-1] += f" ({tuple(theirs[reshaped[0]].shape)} instead of {tuple(ours[reshaped[0]].shape)})"
    if parts:
        raise ValueError(
            f"{name} belong to another architecture than the prior in the config: weights {'; '.join(parts)}. Use the sizes "
            "that they were trained with (config.yaml in a run's folder, config.json in a released one)."
        )


def require_numbers(tensors: Mapping[str, Tensor], name: str, infinite: frozenset[str] = frozenset()) -> None:
    """Raise ValueError, naming the tensor, if one of ``name`` holds NaN, or holds infinity and is not in ``infinite``."""
    for key, tensor in tensors.items():
        if not tensor.is_floating_point() or bool(tensor.isfinite().all()):
            continue
        if key not in infinite or bool(tensor.isnan().any()):
            count = int((~tensor.isfinite()).sum())
            raise ValueError(
                f"{name} hold NaN or infinity: {count} of the {tensor.numel()} numbers of {key}. Every embedding would be "
                "NaN. Use an earlier checkpoint, or fetch them again."
            )
