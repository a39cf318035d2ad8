"""OviPrior: no training; the inputs of the CLIP's image tower are optimised until its embedding fits the caption."""

from __future__ import annotations

import math
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from eclipse_pl.arguments import one_of, require_whole
from eclipse_pl.embedding import ClipSpace, EmbeddingBatch, TextCondition, condition_of
from eclipse_pl.priors.prior import Prior, gaussian_noise
from eclipse_pl.priors.whitening import Whitening

Term = Literal["mahalanobis", "nearest", "none"]


@runtime_checkable
class Tower(Protocol):
    """What OviPrior needs of an encoder: `eclipse_pl.encoders.image_tower.ImageTower`."""

    inputs: int
    width: int

    @property
    def device(self) -> torch.device: ...

    def __call__(self, free: Float[Tensor, "batch inputs width"]) -> Float[Tensor, "batch dim"]: ...


class OviPrior(Prior):
    """Optimisation-based visual inversion (2511.20821): a baseline without training, for Python.

    For each caption it minimises ``1 - cosine`` of an image embedding and the text embedding, and a term that keeps the
    embedding among those of images. The embedding is what the CLIP's image tower makes of a few free vectors. Optimiser and
    start are those of the inversion that the paper builds on (Mistretta et al. 2025); the paper's own numbers could not be
    verified, so weight and scale of the term are ours.

    It needs a GPU: 1,000 forward and backward passes of the image tower for a caption are minutes for a batch of ViT-bigG/14,
    and hours on a CPU. It has not been run on a GPU yet. The tower is passed in with `read_with`; no command does this.

    Args:
        space: CLIP space of captions and image embeddings.
        term: What keeps the embedding among those of images. "mahalanobis": its squared Mahalanobis distance from the mean of
            the training images by their covariance, divided by the number of dimensions (1 for a typical image). "nearest":
            1 - its cosine to the nearest embedding of a bank. "none": nothing, which finds embeddings that no image has.
        weight: Weight of the term. Ours: 0.1.
        steps: Steps of AdamW. Mistretta et al.: 1000.
        learning_rate: Mistretta et al.: 0.02.
        weight_decay: Mistretta et al.: 0.01.

    Raises:
        ValueError: A value is not valid, or the space has no captions, or no covariance that the term needs.
    """

    def __init__(
        self,
        space: ClipSpace,
        term: Term = "mahalanobis",
        weight: float = 0.1,
        steps: int = 1000,
        learning_rate: float = 0.02,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(space)
        one_of("term", term, get_args(Term))
        space.require_captions("OviPrior", "Take another baseline.")
        require_whole("steps", steps, 1, " (default: 1000)")
        for name, value in (("weight", weight), ("learning_rate", learning_rate), ("weight_decay", weight_decay)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value}; it must be 0 or more.")
        if term == "mahalanobis" and space.image_covariance is None:
            raise ValueError(
                f"term is 'mahalanobis', but {space} holds no covariance of its image embeddings. Run the command that made "
                "the shards again, which measures it, or set term to nearest."
            )
        self.term, self.weight = term, weight
        self.steps, self.learning_rate, self.weight_decay = steps, learning_rate, weight_decay
        covariance = space.image_covariance
        whitening = None if covariance is None else Whitening(space.image_mean, covariance).matrix.float()
        self.register_buffer("whitening", whitening)
        self.register_buffer("mean", space.image_mean.clone().float())
        # beside the modules, because the tower's weights are none of the prior's
        self.__dict__["passed_in"] = {}

    def read_with(self, tower: Tower, bank: Float[Tensor, "images dim"] | None = None) -> OviPrior:
        """Pass in the image tower of the space's CLIP, and the image embeddings of the term "nearest".

        Raises:
            ValueError: The term needs a bank and there is none.
        """
        if (self.term == "nearest") != (bank is not None):
            raise ValueError(
                f"term is {self.term!r}, and {'a' if bank is not None else 'no'} bank was passed: the term nearest needs one "
                "of image embeddings, and no other term reads one."
            )
        self.__dict__["passed_in"] = {"tower": tower, "bank": None if bank is None else F.normalize(bank.float(), dim=1)}
        return self

    @property
    def forward_passes(self) -> int:
        """Of the image tower, each with a backward pass."""
        return self.steps

    @property
    def has_losses(self) -> bool:
        return False

    def losses(self, batch: EmbeddingBatch) -> dict[str, Tensor]:
        raise ValueError("OviPrior is not trained. Pass in an image tower with read_with, and call sample.")

    def sample(
        self,
        text: TextCondition | EmbeddingBatch,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """The embedding after ``steps`` steps, where the captions are. The generator draws the start.

        Raises:
            ValueError: No image tower was passed in.
        """
        passed: dict[str, Any] = self.__dict__["passed_in"]
        if not passed:
            raise ValueError(
                "OviPrior has no image tower. Pass it in: `prior.read_with(ImageTower(load_encoder(prior)))`, with ImageTower "
                "of eclipse_pl.encoders.image_tower."
            )
        tower, text_embed = passed["tower"], condition_of(text).text_embed
        # a Trainer evaluates in inference mode, and autograd refuses tensors made there: the captions are cloned outside of it
        with torch.inference_mode(False), torch.enable_grad():
            start = gaussian_noise(torch.empty(len(text_embed), tower.inputs * tower.width, device=tower.device), generator)
            wanted = text_embed.clone().to(tower.device).float()
            free = (0.02 * start).unflatten(1, (tower.inputs, tower.width)).requires_grad_()
            optimizer = torch.optim.AdamW([free], lr=self.learning_rate, weight_decay=self.weight_decay)
            for _ in range(self.steps):
                # a sum, so that a caption's gradient does not depend on the others
                loss = self.objective(tower(free), wanted).sum()
                (free.grad,) = torch.autograd.grad(loss, [free])
                optimizer.step()
        with torch.no_grad():
            found: Tensor = tower(free).to(text_embed.device)
        return found

    def objective(self, embed: Float[Tensor, "batch dim"], text_embed: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """``1 - cosine`` to the text embedding, plus the weighted term."""
        apart = 1 - F.cosine_similarity(embed, text_embed, dim=1)
        if self.term == "mahalanobis":
            assert isinstance(self.whitening, Tensor) and isinstance(self.mean, Tensor)
            far = ((embed - self.mean.to(embed)) @ self.whitening.to(embed)).square().mean(1)
        elif self.term == "nearest":
            far = 1 - (F.normalize(embed, dim=1) @ self.__dict__["passed_in"]["bank"].to(embed).T).amax(1)
        else:
            return apart
        return apart + self.weight * far
