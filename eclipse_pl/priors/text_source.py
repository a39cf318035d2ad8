"""TextSource: where a flow begins that begins at the caption and not at noise, and how it knows what it is asked for."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from eclipse_pl.embedding import ClipSpace, TextCondition
from eclipse_pl.priors.network import PriorNetwork


class TextSource(nn.Module):
    """A Gaussian of each caption, as wide as image embeddings, and the indicator of guidance (CrossFlow, 2412.15213).

    CrossFlow's variational encoder turns the tokens of a caption into the mean and variance of the flow's source, and a
    divergence to N(0, I) keeps them near it. The network of the flow reads no caption. It reads one bit: whether it leads to
    an image of the caption or to any image, which gives guidance something to leave out. What follows is ours: a small
    `PriorNetwork` gives the mean, a linear layer of the pooled text embedding gives the logarithm of the variance, which is 0
    before training, and the bit is one of two learned embeddings in the place of the pooled text embedding. CrossFlow's
    contrastive term of the encoder is left out, because CLIP's text embeddings are contrasted with images already.

    Args:
        space: Space of captions and image embeddings.
        layers: Blocks of the network of the mean.
        heads: Its heads.
        head_dim: Width of each.
    """

    def __init__(self, space: ClipSpace, layers: int, heads: int, head_dim: int) -> None:
        super().__init__()
        widths = (space.dim, space.text_width, space.context_length)
        self.mean = PriorNetwork(*widths, layers, heads, head_dim, text_dim=space.text_dim)
        self.log_variance = nn.Linear(space.text_dim, space.dim)
        nn.init.zeros_(self.log_variance.weight)
        nn.init.zeros_(self.log_variance.bias)
        self.indicator = nn.Parameter(torch.randn(2, space.text_dim) * 0.02)
        """Of any image, and of an image of the caption."""

    def forward(self, text: TextCondition) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch dim"]]:
        """Mean and logarithm of the variance, in float32."""
        nothing = text.text_embed.new_zeros(len(text), self.mean.proj_in.in_features)
        return self.mean(nothing, text).float(), self.log_variance(text.text_embed).float()

    def condition(self, captioned: Bool[Tensor, " batch"]) -> TextCondition:
        """What the network of the flow reads in place of captions."""
        return TextCondition.pooled(torch.where(captioned[:, None], self.indicator[1], self.indicator[0]))


def gaussian_sample(
    mean: Float[Tensor, "batch dim"], log_variance: Float[Tensor, "batch dim"], noise: Float[Tensor, "batch dim"]
) -> Float[Tensor, "batch dim"]:
    """A sample of each Gaussian, from noise of N(0, I)."""
    return mean + (log_variance / 2).exp() * noise


def kl_to_standard_normal(mean: Float[Tensor, "batch dim"], log_variance: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """KL divergence of the Gaussians from N(0, I) (Kingma & Welling 2014, Appendix B), mean over dimensions and batch."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2
