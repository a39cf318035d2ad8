"""LoraPrior: a trained prior whose weights stay as they are, and low-rank changes of them that are trained."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eclipse_pl.arguments import one_of, require_whole
from eclipse_pl.embedding import ClipSpace, EmbeddingBatch, TextCondition
from eclipse_pl.priors.named_class import build_named
from eclipse_pl.priors.network import PriorNetwork
from eclipse_pl.priors.prior import Prior
from eclipse_pl.priors.wrapped import WrappedPrior

Layers = Literal["attention", "all"]
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")
WEIGHTS = "pytorch_lora_weights.safetensors"
"""The name by which diffusers finds a LoRA in a folder."""
METADATA = "lora_adapter_metadata"
"""Where diffusers keeps the config of a LoRA in the file of its weights."""


class LoraPrior(WrappedPrior):
    """Low-rank adaptation of a prior that is trained (LoRA, Hu et al. 2021), by peft.

    A linear layer W of the transformer becomes W + (alpha / rank) B A. B begins with zeros, so the prior is at first what it
    was. Only A and B are trained, so gradients and the states of the optimizer take little memory: for the published priors of
    1 billion parameters, with attention and rank 16, they are 5.2 million. The loss and the sampling are those of the prior.
    Checkpoints hold all weights. `sample`, `benchmark` and `export` take a run of it as the prior with the changes added.
    The 1 B priors were not run with it yet, nor a GPU.

    Args:
        space: CLIP space of captions and image embeddings.
        prior: Class of the prior, such as eclipse_pl.priors.diffusion.DiffusionPrior.
        prior_args: Arguments of that class, without the space. Its ``weights`` name the trained prior.
        rank: Rank of the changes.
        alpha: Scale of the changes, before it is divided by ``rank``.
        layers: "attention": the four projections of each attention layer; "all": the feed-forward layers too.

    Raises:
        ValueError: A value is not valid, peft is not installed, or the prior has no transformer.
    """

    def __init__(
        self,
        space: ClipSpace,
        prior: str,
        prior_args: dict[str, Any],
        rank: int = 16,
        alpha: float = 16.0,
        layers: Layers = "attention",
    ) -> None:
        one_of("layers", layers, get_args(Layers))
        require_whole("rank", rank, 1, " (default: 16)")
        if not 0 < alpha < math.inf:
            raise ValueError(f"alpha is {alpha}; it must be above 0 (default: 16).")
        peft = require_peft()
        made = build_named({"class_path": prior, "init_args": prior_args}, (Prior,), "The prior to adapt", space=space)
        network = getattr(made, "network", None)
        if not isinstance(network, PriorNetwork):
            raise ValueError(
                f"{type(made).__name__} has no transformer that LoRA could adapt: take EclipsePrior, DiffusionPrior or "
                "FlowPrior."
            )
        super().__init__(space, made)
        self.trained = prior_args.get("weights") is not None
        targets = ATTENTION + (FEED_FORWARD if layers == "all" else ())
        self.config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets))
        made.requires_grad_(False)
        peft.inject_adapter_in_model(self.config, network)

    @property
    def is_deterministic(self) -> bool:
        return self.prior.is_deterministic

    def losses(self, batch: EmbeddingBatch) -> dict[str, Tensor]:
        """Those of the prior.

        Raises:
            ValueError: In training, if the prior to adapt is not a trained one.
        """
        if self.training and not self.trained:
            raise ValueError(
                "LoRA adapts a prior that is trained, and prior_args name no weights: set weights among them to a run, a "
                "released folder or a hub id."
            )
        return super().losses(batch)

    @torch.no_grad()
    def sample(
        self,
        text: TextCondition | EmbeddingBatch,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """What the prior samples with the changes."""
        return self.prior.sample(text, generator)

    @torch.no_grad()
    def merged(self) -> Prior:
        """Add the changes to the weights, and return the prior. It is a plain one from then on. This wrapper is used up."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        network = self.prior.network
        assert isinstance(network, nn.Module)
        for parent in list(network.modules()):
            for name, layer in list(parent.named_children()):
                if isinstance(layer, BaseTunerLayer):
                    layer.merge()
                    setattr(parent, name, layer.get_base_layer())
        self.prior.trained_on = self.trained_on
        return self.prior.requires_grad_(True)

    def write_changes(self, folder: Path) -> Path:
        """Write the changes alone, for ``load_lora_adapter(folder, use_safetensors=True, prefix=None)`` of diffusers.

        Returns:
            The file.
        """
        from peft.utils import get_peft_model_state_dict
        from safetensors.torch import save_file

        tensors = {
            name: tensor.detach().cpu().contiguous() for name, tensor in get_peft_model_state_dict(self.prior.network).items()
        }
        facts = {key: sorted(value) if isinstance(value, set) else value for key, value in self.config.to_dict().items()}
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / WEIGHTS, {"format": "pt", METADATA: json.dumps(facts, indent=2, sort_keys=True)})
        return folder / WEIGHTS


def require_peft() -> Any:
    """Return peft.

    Raises:
        ValueError: It is not installed.
    """
    try:
        import peft
    except ImportError:
        raise ValueError("LoRA needs peft, which is not installed: pip install eclipse_pl[peft].") from None
    return peft
