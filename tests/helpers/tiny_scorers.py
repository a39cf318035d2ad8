"""Tiny models of the scorers' classes with random weights, in folders as published ones are, and prompts to score by."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.scorers.detections import Box

_WORDS = """
[PAD] [unused] [UNK] [CLS] [SEP] [MASK] yes no a an the of in on and is there red green blue bench bowl table cat dog circle
star photo ? . one two three
"""
WORDS = _WORDS.split()


def tiny_image(seed: int = 0, size: tuple[int, int] = (60, 50)) -> Image.Image:
    """Random colours; ``size`` is width and height."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def broken_image() -> Image.Image:
    """A PNG that ends in the middle: Pillow opens it, and fails when its pixels are asked for."""
    whole = io.BytesIO()
    tiny_image().save(whole, "PNG")
    return Image.open(io.BytesIO(whole.getvalue()[:2000]))


def prompt(text: str = "a green bench and a blue bowl", number: int = 0, category: str = "color", **parts: Any) -> Prompt:
    return Prompt(f"{category}/{number:04d}", category, text, **parts)


def box(*corners: float) -> Box:
    return Box(*map(float, corners))


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


def tiny_grounding_dino(folder: Path, queries: int = 6) -> Path:
    """The special tokens keep the ids of BERT's vocabulary, because the model knows them by number."""
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection, GroundingDinoImageProcessor, SwinConfig

    words = [f"[unused{i}]" for i in range(1100)]
    for number, word in {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}.items():
        words[number] = word
    words[200 : 200 + len(WORDS)] = [word if word.isalpha() else f"[other{i}]" for i, word in enumerate(WORDS)]
    bert = {
        "model_type": "bert", "vocab_size": 1100, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 16, "max_position_embeddings": 256,
    }  # fmt: skip
    swin = SwinConfig(
        image_size=98,
        window_size=7,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        out_features=["stage2", "stage3", "stage4"],
    )
    config = GroundingDinoConfig(
        backbone_config=swin, text_config=bert, d_model=32, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32, encoder_attention_heads=4, decoder_attention_heads=4, num_queries=queries, num_feature_levels=4,
        encoder_n_points=2, decoder_n_points=2, max_text_len=64,
    )  # fmt: skip
    size = {"shortest_edge": 98, "longest_edge": 98}
    return save(
        GroundingDinoForObjectDetection(config), folder, bert_tokenizer(folder, words), GroundingDinoImageProcessor(size=size)
    )


def clip_tokenizer(folder: Path) -> Any:
    """One token a letter, as CLIP's byte pairs end where nothing was merged."""
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'"
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))


def tiny_owlv2(folder: Path) -> Path:
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2Processor

    tokenizer = clip_tokenizer(folder)
    tokenizer.model_max_length = 77
    size = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {**size, "vocab_size": len(tokenizer), "max_position_embeddings": 77, "bos_token_id": 82, "eos_token_id": 83}
    config = Owlv2Config(text_config=text, vision_config={**size, "image_size": 32, "patch_size": 8}, projection_dim=32)
    images = Owlv2ImageProcessor(size={"height": 32, "width": 32})
    return save(Owlv2ForObjectDetection(config), folder, Owlv2Processor(image_processor=images, tokenizer=tokenizer))


def tiny_dpt(folder: Path) -> Path:
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    config = DPTConfig(
        image_size=32, patch_size=16, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=37,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[16, 16, 16, 16], fusion_hidden_size=16, head_in_index=-1,
    )  # fmt: skip
    return save(DPTForDepthEstimation(config), folder, DPTImageProcessor(size={"height": 32, "width": 32}))


def tiny_clip(folder: Path) -> Path:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    tokenizer = clip_tokenizer(folder)
    size = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {**size, "vocab_size": len(tokenizer), "max_position_embeddings": 40, "bos_token_id": 82, "eos_token_id": 83}
    config = CLIPConfig(text_config=text, vision_config={**size, "image_size": 32, "patch_size": 8}, projection_dim=16)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return save(CLIPModel(config), folder, CLIPProcessor(image_processor=images, tokenizer=tokenizer))


def tiny_clip_vision(folder: Path) -> Path:
    """The image tower of a CLIP alone; a folder without any processor."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    size = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPVisionConfig(**size, image_size=48, patch_size=16, projection_dim=16)
    return save(CLIPVisionModelWithProjection(config), folder)


def tiny_dinov2(folder: Path) -> Path:
    """Position embeddings of another size than 224 x 224, as published ones are."""
    from transformers import Dinov2Config, Dinov2Model

    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2}
    return save(Dinov2Model(Dinov2Config(**size, image_size=280, patch_size=56)), folder)


def tiny_dino(folder: Path) -> Path:
    from transformers import ViTConfig, ViTModel

    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return save(ViTModel(ViTConfig(**size, image_size=224, patch_size=56), add_pooling_layer=False), folder)


CHAT = """{% for message in messages %}<|im_start|>{{ message['role'] }}
{% for part in message['content'] -%}
{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}
{%- endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def qwen_tokenizer(words: tuple[str, ...] = ("Yes", "No", "yes", "two", "three")) -> Any:
    """Letters, and a few words that are one token each, "Two" not among them."""
    from transformers import Qwen2TokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?'\":ĠĊ"
    pairs = dict.fromkeys((word[:i], word[i]) for word in words for i in range(1, len(word)))
    vocabulary = [*letters, *dict.fromkeys("".join(pair) for pair in pairs)]
    special = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    return Qwen2TokenizerFast(
        vocab={token: number for number, token in enumerate(vocabulary)}, merges=list(pairs), eos_token="<|im_end|>",
        pad_token="<|endoftext|>", unk_token="<|endoftext|>", additional_special_tokens=special,
    )  # fmt: skip


def tiny_qwen(folder: Path) -> Path:
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    tokenizer = qwen_tokenizer()
    places = {
        f"{kind}_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>")
        for kind, token in {
            "image_token": "image_pad", "video_token": "video_pad",
            "vision_start_token": "vision_start", "vision_end_token": "vision_end",
        }.items()
    }  # fmt: skip
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "head_dim": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
        "rope_scaling": {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True},
    }  # fmt: skip
    vision = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 37, "num_heads": 4, "patch_size": 8, "out_hidden_size": 32,
        "num_position_embeddings": 64, "deepstack_visual_indexes": [0],
    }  # fmt: skip
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=8, min_pixels=1024, max_pixels=4096),
        video_processor=Qwen3VLVideoProcessor(patch_size=8),
        tokenizer=tokenizer,
        chat_template=CHAT,
    )
    config = Qwen3VLConfig(text_config=text, vision_config=vision, **places)
    return save(Qwen3VLForConditionalGeneration(config), folder, processor)


def tiny_mask2former(folder: Path) -> Path:
    """The classes are called as some published configs call them, "sofa" and "mouse"."""
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessor,
        SwinConfig,
    )

    stages = ["stage1", "stage2", "stage3", "stage4"]
    swin = SwinConfig(image_size=64, window_size=2, embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, out_features=stages)
    config = Mask2FormerConfig(
        backbone_config=swin, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=16,
        dim_feedforward=16, num_attention_heads=2, encoder_layers=1, decoder_layers=2, num_queries=10,
        id2label={0: "person", 1: "sofa", 2: "mouse", 3: "dog"}, label2id={"person": 0, "sofa": 1, "mouse": 2, "dog": 3},
    )  # fmt: skip
    processor = Mask2FormerImageProcessor(size={"shortest_edge": 64, "longest_edge": 128}, size_divisor=32)
    return save(Mask2FormerForUniversalSegmentation(config), folder, processor)
