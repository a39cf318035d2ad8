"""GuidedPrior: what all priors of many steps share: the network with a time token, condition dropout and guidance."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float, Real
from torch import Tensor

from eclipse_pl.embedding import ClipSpace, TextCondition
from eclipse_pl.priors.network import PriorNetwork
from eclipse_pl.priors.prior import Prior
from eclipse_pl.priors.standardised import Standardise


class GuidedPrior(Prior):
    """Base class of priors that call a network with a time token several times, with classifier-free guidance.

    Args:
        space: CLIP space of captions and image embeddings; it gives all widths, the statistics and the empty prompt.
        network: PriorNetwork with a time token.
        condition_dropout: Fraction of captions that training replaces by the empty prompt. Guidance needs it.
        standardise: What the network predicts; see `StandardisedNetwork.standardise_by`.
        guidance_scale: Scale w of ``empty + w (caption - empty)`` (Ho & Salimans 2022, scaled as in Imagen, Eq. 2). 1 means
            no guidance.
        clamp: Bound of every number of the predicted clean embedding in sampling; None sets no bound.
        reads_empty_prompt: Whether the network reads the encoded empty prompt where there is no caption. A subclass that
            overrides `empty_prompt` may need none.

    Raises:
        ValueError: A value is not valid, or the space lacks the empty prompt or the statistics that these options need.
    """

    network: PriorNetwork
    empty_embed: Float[Tensor, " dim"] | None
    empty_states: Float[Tensor, "tokens width"] | None

    def __init__(
        self,
        space: ClipSpace,
        network: PriorNetwork,
        condition_dropout: float,
        standardise: Standardise,
        guidance_scale: float,
        clamp: float | None,
        reads_empty_prompt: bool = True,
    ) -> None:
        super().__init__(space)
        if not 0 <= condition_dropout < 1:
            raise ValueError(
                f"condition_dropout is {condition_dropout}; it must be 0 (no dropout) or more, and below 1 (default: 0.1)."
            )
        if clamp is not None and not 0 < clamp < math.inf:
            raise ValueError(f"clamp is {clamp}; it must be above 0 (published priors: 5 or 10), or null for no clamp.")
        self.condition_dropout = condition_dropout
        self.clamp = clamp
        self.reads_empty_prompt = reads_empty_prompt
        self.set_guidance(guidance_scale)
        self.network = network
        if condition_dropout and reads_empty_prompt:
            space.empty_prompt()  # raises here, not after the first epoch
        # Not saved, because they are in the space. A copy from the host in each step would make it wait.
        self.register_buffer("empty_embed", space.empty_embed, persistent=False)
        self.register_buffer("empty_states", space.empty_states, persistent=False)
        if guidance_scale != 1 and not condition_dropout:
            warnings.warn(
                f"guidance_scale is {guidance_scale}, but condition_dropout is 0. The network will not see the "
                "empty prompt in training. Guidance needs it: set condition_dropout above 0 (0.1), or guidance_scale to 1.",
                UserWarning,
                stacklevel=3,
            )
        network.standardise_by(space, standardise)

    @property
    @abstractmethod
    def sampling(self) -> dict[str, int | float | str]:
        """The options that `sample_with` sets."""

    @abstractmethod
    def set_steps(self, steps: int) -> None:
        """Set the number of sampling steps. Raises ValueError if it is not valid."""

    def sample_with(self, steps: int | None = None, guidance_scale: float | None = None) -> None:
        """Set the options of the sampler; None keeps the present value. The weights stay as they are.

        Raises:
            ValueError: A value is not valid, or guidance lacks the empty prompt.
        """
        if guidance_scale is not None:
            self.set_guidance(guidance_scale)
        if steps is not None:
            self.set_steps(steps)

    def set_guidance(self, scale: float) -> None:
        """Set the scale of guidance. The weights stay as they are.

        Raises:
            ValueError: The scale is not valid, or the space lacks the empty prompt.
        """
        if not (scale >= 0 and math.isfinite(scale)):
            raise ValueError(f"guidance_scale is {scale}; it must be 0 or more. 1 means no guidance; published priors use 4.")
        if scale != 1 and self.reads_empty_prompt:
            self.space.empty_prompt()
        self.guidance_scale = scale

    def empty_prompt(self, like: TextCondition) -> TextCondition:
        """The encoded empty prompt with the device and type of ``like``, without a copy from the host."""
        embed, states = self.empty_embed, self.empty_states
        if embed is None or states is None:
            return self.space.empty_prompt()  # raises
        tokens, like_embed = len(states), like.text_embed
        lengths = torch.full((1,), tokens, device=like_embed.device)
        return TextCondition(embed[None].to(like_embed), states.to(like_embed), lengths, (tokens, tokens))

    @property
    def passes_a_call(self) -> int:
        """Forward passes of the network for one guided prediction."""
        return 1 if self.guidance_scale == 1 else 2

    def dropped(self, text: TextCondition) -> TextCondition:
        """In training, ``text`` with a random part of the captions replaced by the empty prompt."""
        if not (self.training and self.condition_dropout):
            return text
        rows = torch.rand(len(text), device=text.text_embed.device) < self.condition_dropout
        return text.replaced(rows, self.empty_prompt(text))

    def guided(self, text: TextCondition) -> Callable[..., Float[Tensor, "batch dim"]]:
        """The guided prediction from noisy embeddings and times. The captions are read once for all steps."""
        if self.guidance_scale == 1:
            prefix = self.network.prefix(text)
            return lambda noisy, *times: self.network.continue_prefix(noisy, prefix, *times)
        batch, device = len(text), text.text_embed.device
        captions = TextCondition.join([text, self.empty_prompt(text)])
        rows = torch.cat([torch.arange(batch, device=device), torch.full((batch,), batch, device=device)])
        doubled = self.network.prefix(captions).select(rows)

        def predict(noisy: Float[Tensor, "batch dim"], *times: Real[Tensor, " batch"]) -> Float[Tensor, "batch dim"]:
            twice = [time.repeat(2) for time in times]
            captioned, empty = self.network.continue_prefix(noisy.repeat(2, 1), doubled, *twice).chunk(2)
            return empty + self.guidance_scale * (captioned - empty)

        return predict


def network_with_time(
    space: ClipSpace, num_layers: int, num_attention_heads: int, attention_head_dim: int, interval: bool = False
) -> PriorNetwork:
    """The network of the widths of ``space`` with a time token."""
    widths = (space.dim, space.text_width, space.context_length)
    sizes = (num_layers, num_attention_heads, attention_head_dim)
    return PriorNetwork(*widths, *sizes, time_embedding=True, text_dim=space.text_dim, interval_embedding=interval)
