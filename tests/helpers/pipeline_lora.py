"""A LoRA of a pipeline. It needs peft, which a machine for `make gpu` may lack."""

from __future__ import annotations

from pathlib import Path

import torch


def pipeline_lora(folder: Path, pipeline: Path) -> Path:
    """A random LoRA of a pipeline's UNet, as diffusers saves LCM-LoRA."""
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(1)
    unet = UNet2DConditionModel.from_pretrained(pipeline / "unet")
    unet.add_adapter(LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers)
    return folder
