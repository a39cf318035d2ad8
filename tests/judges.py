"""Tiny models of the judges' classes with random weights, in folders as published ones are, and prompts to judge by."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from eclipse_pl.prompts.prompt import Prompt

_WORDS = """
[PAD] [unused] [UNK] [CLS] [SEP] [MASK] yes no a an the of in on and is there red green blue bench bowl table cat dog circle
star photo ? . one two three
"""
WORDS = _WORDS.split()


def picture(seed: int = 0, size: tuple[int, int] = (60, 50)) -> Image.Image:
    """Random colours; ``size`` is width and height."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def broken_picture() -> Image.Image:
    """A PNG that ends in the middle: Pillow opens it, and fails when its pixels are asked for."""
    whole = io.BytesIO()
    picture().save(whole, "PNG")
    return Image.open(io.BytesIO(whole.getvalue()[:2000]))


def prompt(text: str = "a green bench and a blue bowl", number: int = 0, category: str = "color", **parts: Any) -> Prompt:
    return Prompt(f"{category}/{number:04d}", category, text, **parts)


def save(model: Any, folder: Path, *processors: Any) -> Path:
    """``model`` with every weight moved away from its initial value, so that a wrong place would show."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for part in (model, *processors):
        part.save_pretrained(folder)
    return folder


def bert_tokenizer(folder: Path, words: list[str] = WORDS) -> Any:
    from transformers import BertTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(words))
    return BertTokenizer(str(vocabulary))


def tiny_blip(folder: Path, extra_tokens: int = 2) -> Path:
    from transformers import BlipConfig, BlipForQuestionAnswering

    size = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    words = len(WORDS)
    text = {
        **size, "vocab_size": words + extra_tokens, "encoder_hidden_size": 32, "projection_dim": 32,
        "max_position_embeddings": 64, "bos_token_id": words, "pad_token_id": 0, "sep_token_id": 4, "eos_token_id": 4,
    }  # fmt: skip
    config = BlipConfig(text_config=text, vision_config={**size, "image_size": 32, "patch_size": 8}, projection_dim=32)
    return save(BlipForQuestionAnswering(config), folder, bert_tokenizer(folder))
