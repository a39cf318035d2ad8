"""LoraFile: a LoRA of a diffusers pipeline, such as LCM-LoRA, merged into its weights."""

from __future__ import annotations

from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from eclipse_pl.decoders.adapter_file import shapes_of
from eclipse_pl.decoders.pipeline_folder import quiet_diffusers
from eclipse_pl.model_folder import find_model_folder, sha256_of

NAME = "pytorch_lora_weights.safetensors"
"""The name that diffusers' ``save_lora_weights`` gives."""


class LoraFile:
    """Low-rank changes of a pipeline's weights.

    Args:
        source: Hub id or local folder that holds one safetensors file, or several and one of them named as diffusers names it.

    Raises:
        ValueError: `peft` is not installed.
    """

    def __init__(self, source: str) -> None:
        if find_spec("peft") is None:
            raise ValueError(f"The LoRA {source} needs peft, which is not installed: pip install eclipse_pl[peft].")
        self.source = source

    @cached_property
    def path(self) -> Path:
        """The local file. A file of the hub is downloaded."""
        folder = find_model_folder(self.source, ["*.safetensors"])
        found = sorted(folder.glob("*.safetensors"))
        if (folder / NAME) not in found and len(found) != 1:
            there = f"{len(found)} safetensors files" if found else "no safetensors file"
            raise ValueError(f"{self.source} holds {there}. Name a folder with one of them, or with {NAME}.")
        return folder / NAME if (folder / NAME) in found else found[0]

    @property
    def sha256(self) -> str:
        return sha256_of(self.path)

    def merge_into(self, pipeline: Any) -> None:
        """Add the changes to the weights of ``pipeline``, so that they cost no time in generation.

        Raises:
            ValueError: They belong to another pipeline, or the file is damaged.
        """
        shapes_of(self.path)
        try:
            with quiet_diffusers():
                pipeline.load_lora_weights(str(self.path.parent), weight_name=self.path.name, local_files_only=True)
            if not pipeline.get_active_adapters():
                raise ValueError("none of its weights has the name of a weight of the pipeline")
        except (LookupError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(
                f"The LoRA {self.source} does not fit {type(pipeline).__name__} ({reason}). Take the LoRA of this pipeline: "
                "for Stable Diffusion 1.5 latent-consistency/lcm-lora-sdv1-5, for SDXL latent-consistency/lcm-lora-sdxl."
            ) from error
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
