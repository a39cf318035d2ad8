"""DirectPrior: one forward pass from noise to image embedding, trained as ECLIPSE is (Patel et al., CVPR 2024, 2312.04655).

``L = L_proj + lambda * L_CLS`` (Eq. 5). Projection-only, the paper's first baseline, is ``contrastive_weight: 0``.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eclipse_pl.arguments import one_of, require_whole
from eclipse_pl.embedding import ClipSpace, EmbeddingBatch, TextCondition, condition_of
from eclipse_pl.losses import (
    contrastive_loss,
    cosine_loss,
    duplicates,
    energy_score,
    first_of_rank,
    gather_ranks,
    projection_loss,
)
from eclipse_pl.priors.open_saved import open_saved
from eclipse_pl.priors.prior import Prior, gaussian_noise
from eclipse_pl.priors.standardised import Standardise, StandardisedNetwork

Projection = Literal["squared", "energy", "cosine"]
Target = Literal["text", "image", "symmetric"]
Negatives = Literal["all_ranks", "this_rank"]
Noise = Literal["gaussian", "zero", "learned"]

LARGEST_SCALE = math.log(100)
"""CLIP's bound on the logarithm of a learned inverse temperature."""


class DirectPrior(Prior):
    """ECLIPSE's training rule for any network. "Ours" marks a default that the paper does not state; the reason follows it.

    Args:
        space: CLIP space of captions and image embeddings.
        network: The network that predicts from noise and text. Its widths must be those of the space.
        contrastive_weight: Lambda of Eq. 5. Paper: 0.2 ("optimal range 0.2-0.4"). At 0 the contrastive term is
            computed and logged without gradient, so that projection-only and ECLIPSE can be compared. (It is left out if it
            needs text embeddings, and the space has conditions that are no captions.) Null: `relative_weight` states it.
        relative_weight: Lambda as a share of the squared error of the mean image: lambda by the variance of what L_proj
            compares, a dimension (or in all of them where `reduction` is "sum"). One lambda is another experiment in another
            space, and one relative weight is not. Set contrastive_weight to null to state it. Ours.
        projection: L_proj. "squared" (paper): Eq. 3. "energy": the energy score of ``samples`` predictions (`energy_score`).
            It trains the prior to sample from the images of a caption, where Eq. 3 trains it to predict their mean.
            "cosine": 1 - cosine of raw embeddings. It leaves the norm free, and decoders expect that of true embeddings.
        samples: Number of predictions a caption in training, each from its own noise; all losses are averaged over them. Each
            further one costs three tokens, because the caption is read once. Paper: 1. The energy score needs 2 or more.
        beta: Exponent of the energy score, above 0 and below 2.
        reduction: Reduction of squares over dimensions, of the squared error or of the squared distances of the energy score:
            "mean" or "sum". Ours: "mean". Eq. 3 prints a squared norm ("sum"), but with it a contrastive weight of 0.2 has
            almost no effect, and in the paper it has one.
        temperature: Temperature of Eq. 4. Ours: 0.01, the temperature of the frozen CLIP.
        learn_temperature: Learn the temperature, starting from ``temperature``, with CLIP's bounds. Ours: False, because a
            learned temperature changes the weight of the contrastive term.
        negatives: Ranks that supply the negatives: "all_ranks" or "this_rank". Ours: "all_ranks" (one gather of constants), so
            that the loss depends on the global batch and not on the number of GPUs. In evaluation mode always "this_rank".
            With ``accumulate_grad_batches`` they are those of one micro-batch.
        target: Embeddings that Eq. 4 contrasts predictions with. "text" (paper): the text embeddings. "image": the true image
            embeddings. "symmetric": the mean of "text" and of the same loss with text embeddings as rows and predictions as
            columns.
        mask_duplicates: Leave out false negatives: columns whose target equals the row's own, or whose pair shows the same
            image. Ours: False, as the paper does not mention it. Set it to True if captions or images repeat.
        hard_negatives: Contrast predictions with the negative captions of the batch too: texts with swapped attributes, which
            belong to no image. The training pairs must have them (`negative_caption` in docs/data.md); in validation, and
            where the contrastive term is only logged, they are used where they exist. With "symmetric", texts as rows have
            none. Losses with and without them cannot be compared. Ours: False, as the paper does not mention it.
        noise: The second input of the network. "gaussian" (paper): new noise for each pair in training and sampling. "zero"
            and "learned" (one vector) make the prior deterministic. Weights trained with "gaussian" may be used with "zero";
            any other change is refused.
        standardise: What the network predicts, and so what L_proj compares: "none", raw embeddings; "diagonal", embeddings
            standardised by the space's mean and standard deviation; "full", embeddings whitened by its covariance. L_CLS and
            `sample` use raw ones. Ours: "none", as in ECLIPSE's inference code.
        weights: Initial weights: a run or one of its checkpoints, and for EclipsePrior also a released prior; see
            `open_saved`.

    Raises:
        ValueError: A value is not valid. The message names the choices.
    """

    def __init__(
        self,
        space: ClipSpace,
        network: StandardisedNetwork,
        contrastive_weight: float | None = 0.2,
        relative_weight: float | None = None,
        projection: Projection = "squared",
        samples: int = 1,
        beta: float = 1.0,
        reduction: Literal["mean", "sum"] = "mean",
        temperature: float = 0.01,
        learn_temperature: bool = False,
        negatives: Negatives = "all_ranks",
        target: Target = "text",
        mask_duplicates: bool = False,
        hard_negatives: bool = False,
        noise: Noise = "gaussian",
        standardise: Standardise = "none",
        weights: str | None = None,
    ) -> None:
        super().__init__(space)
        one_of("projection", projection, get_args(Projection))
        one_of("reduction", reduction, ("mean", "sum"))
        one_of("negatives", negatives, ("all_ranks", "this_rank"))
        one_of("target", target, ("text", "image", "symmetric"))
        one_of("noise", noise, ("gaussian", "zero", "learned"))
        weight = stated_weight(contrastive_weight, relative_weight, projection)
        if not (0.01 <= temperature <= 100 if learn_temperature else 0 < temperature < math.inf):
            valid = (
                "between 0.01 and 100, the range of a learned temperature" if learn_temperature else "above 0 (default: 0.01)"
            )
            raise ValueError(f"temperature is {temperature}; it must be {valid}.")
        if learn_temperature and weight == 0:
            raise ValueError(
                "learn_temperature is True but contrastive_weight is 0, so the temperature has no gradient. "
                "Set learn_temperature to False, or contrastive_weight above 0."
            )
        if weight and target != "image":
            remedy = "Set target to image, or contrastive_weight to 0."
            space.require_captions(f"The contrastive term with target {target}", remedy)
        if hard_negatives:
            space.require_captions("hard_negatives", "Set hard_negatives to False.")
        if hard_negatives and target == "image":
            raise ValueError(
                "hard_negatives is True, and they are captions, but target is 'image'. Set target to text or symmetric, or "
                "hard_negatives to False."
            )
        require_samples(projection, samples, beta, noise)
        if projection == "cosine" and reduction == "sum":
            raise ValueError("reduction is 'sum', but projection 'cosine' reduces no squares. Set reduction to mean.")
        self.projection = projection
        self.samples = samples
        self.beta = beta
        self.reduction = reduction
        self.temperature = temperature
        self.negatives = negatives
        self.target = target
        self.mask_duplicates = mask_duplicates
        self.hard_negatives = hard_negatives
        self.noise = noise
        self.network = network
        self.network.standardise_by(space, standardise)
        self.standardised = standardise != "none"
        if relative_weight and not self._variance():
            raise ValueError(
                f"relative_weight is {relative_weight}, relative to the squared error of the mean image, and that is 0: all "
                f"image embeddings of {space.name} are equal. Set contrastive_weight, and relative_weight to null."
            )
        self.contrastive_weight = weight if relative_weight is None else weight * self._variance()
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature))) if learn_temperature else None
        self.learned_noise = nn.Parameter(torch.zeros(space.dim)) if noise == "learned" else None
        if weights is not None:
            open_saved(weights).fill(self)

    @property
    def trained_for(self) -> dict[str, str | int | float | bool]:
        return {"noise": self.noise}

    @property
    def forward_passes(self) -> int:
        return 1

    @property
    def is_deterministic(self) -> bool:
        return self.noise != "gaussian"

    @property
    def relative_weight(self) -> float | None:
        """The contrastive weight by the squared error of the mean image; None where that is 0, and for projection terms that
        are no squares."""
        variance = self._variance() if self.projection == "squared" else 0.0
        return self.contrastive_weight / variance if variance else None

    def losses(self, batch: EmbeddingBatch) -> dict[str, Tensor]:
        """``projection`` (Eq. 3, or what replaces it), ``contrastive`` (Eq. 4, before its weight) and ``total`` (Eq. 5)."""
        predictions = self._predictions(batch)
        projection = self._projection(predictions, batch.image_embed)
        if self.target != "image" and not self.space.has_captions:
            return {"projection": projection, "total": projection}
        with nullcontext() if self.contrastive_weight else torch.no_grad():
            terms = [self._contrastive(self.network.raw(one), batch) for one in predictions]
            contrastive = torch.stack(terms).mean()
        return {
            "projection": projection,
            "contrastive": contrastive,
            "total": projection + self.contrastive_weight * contrastive if self.contrastive_weight else projection,
        }

    @torch.no_grad()
    def sample(
        self,
        text: TextCondition | EmbeddingBatch,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """One forward pass; the generator draws the Gaussian noise. It is not used if noise is zero or learned."""
        text = condition_of(text)
        noise = self._noise(text.text_embed.new_empty(len(text), self.space.dim), generator)
        return self.network.raw(self._predict(text, noise)).float()

    def _predict(self, text: TextCondition, noise: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        prediction: Tensor = self.network(noise, text)
        return prediction

    def _predictions(self, batch: EmbeddingBatch) -> Float[Tensor, "samples batch dim"]:
        noise = [self._noise(batch.image_embed, None) for _ in range(self.samples)]
        if self.samples == 1:
            return self._predict(batch.text, noise[0])[None]
        return self.network.draws(torch.stack(noise), batch.text)

    def _projection(
        self, predictions: Float[Tensor, "samples batch dim"], image_embed: Float[Tensor, "batch dim"]
    ) -> Float[Tensor, ""]:
        if self.projection == "cosine":
            return torch.stack([cosine_loss(self.network.raw(one), image_embed) for one in predictions]).mean()
        target = self.network.standardise(image_embed)
        if self.projection == "energy":
            return energy_score(predictions, target, self.beta, self.reduction)
        return torch.stack([projection_loss(one, target, self.reduction) for one in predictions]).mean()

    def _noise(
        self, like: Float[Tensor, "batch dim"], generator: torch.Generator | list[torch.Generator] | None
    ) -> Float[Tensor, "batch dim"]:
        if self.noise == "gaussian":
            return gaussian_noise(like, generator)
        return torch.zeros_like(like) if self.learned_noise is None else self.learned_noise.expand_as(like)

    def _contrastive(self, prediction: Float[Tensor, "batch dim"], batch: EmbeddingBatch) -> Float[Tensor, ""]:
        targets = batch.image_embed if self.target == "image" else batch.text.text_embed
        # Validation batches may differ in size between ranks, or run on one rank alone, so ranks must not communicate.
        together = self.training and self.negatives == "all_ranks"
        columns = gather_ranks(targets) if together else targets
        first = first_of_rank(len(targets)) if together else 0
        positives = first + torch.arange(len(targets), device=targets.device)
        ignored = duplicates(targets, columns) if self.mask_duplicates else None
        if ignored is not None and batch.group is not None:
            ignored |= batch.group[:, None] == (gather_ranks(batch.group) if together else batch.group)
        temperature = self._temperature()
        hard_negatives = self._hard_negatives(batch)
        if hard_negatives is not None and together:
            hard_negatives = gather_ranks(hard_negatives)
        loss = contrastive_loss(prediction, columns, temperature, positives, ignored, hard_negatives)
        if self.target == "symmetric":
            predictions = gather_ranks(prediction) if together else prediction
            loss = (loss + contrastive_loss(targets, predictions, temperature, positives, ignored)) / 2
        return loss

    def _hard_negatives(self, batch: EmbeddingBatch) -> Float[Tensor, "batch dim"] | None:
        if not self.hard_negatives:
            return None
        if batch.negative_text_embed is None and self.training and self.contrastive_weight:
            raise ValueError(
                "hard_negatives is True, but the training pairs have no negative captions. Give the raw pairs a field "
                "negative_caption and embed them into another folder, set data.train_negatives of the world to True, or "
                "hard_negatives to False."
            )
        return batch.negative_text_embed

    def _variance(self) -> float:
        """The squared error of the mean image, in the units of L_proj."""
        variance = 1.0 if self.standardised else float(self.space.image_std.double().square().mean())
        return variance * (self.space.dim if self.reduction == "sum" else 1)

    def _temperature(self) -> float | Tensor:
        if self.log_scale is None:
            return self.temperature
        if self.training:
            # Clamp the parameter itself, as CLIP does. A clamp inside the graph has no gradient outside its bounds.
            with torch.no_grad():
                self.log_scale.clamp_(-LARGEST_SCALE, LARGEST_SCALE)
        return torch.exp(-self.log_scale)


def require_samples(projection: Projection, samples: int, beta: float, noise: Noise) -> None:
    """Raise ValueError for a number of samples that the projection term cannot use, or an exponent that it does not have."""
    why = ": the energy score compares samples of a caption with each other" if projection == "energy" else ""
    require_whole("samples", samples, 2 if why else 1, why)
    if samples > 1 and noise != "gaussian":
        raise ValueError(
            f"samples is {samples}, but noise {noise!r} makes all samples of a caption equal. Set noise to gaussian, or "
            "samples to 1 with projection squared."
        )
    if not 0 < beta < 2:
        raise ValueError(f"beta is {beta}; it must be above 0 and below 2 (default: 1).")
    if beta != 1 and projection != "energy":
        raise ValueError(f"beta is {beta}, but only the energy score has it. Set projection to energy, or beta to 1.")


def stated_weight(contrastive_weight: float | None, relative_weight: float | None, projection: Projection) -> float:
    """Return the one of the two weights that is stated. ValueError unless exactly one is, and projection has it."""
    if contrastive_weight is None and relative_weight is not None:
        name, weight = "relative_weight", relative_weight
    elif contrastive_weight is not None and relative_weight is None:
        name, weight = "contrastive_weight", contrastive_weight
    else:
        raise ValueError(
            f"contrastive_weight is {contrastive_weight} and relative_weight is {relative_weight}: they state one weight. Set "
            "one of them, and the other to null."
        )
    if not (weight >= 0 and math.isfinite(weight)):
        raise ValueError(f"{name} is {weight}; it must be 0 (projection only) or more (ECLIPSE: contrastive_weight 0.2).")
    if name == "relative_weight" and projection != "squared":
        raise ValueError(
            f"relative_weight is {weight}, which is relative to a squared error, and projection is {projection!r}. Set "
            "contrastive_weight, and relative_weight to null."
        )
    return weight
