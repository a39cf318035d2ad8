"""An open_clip text tower as transformers' ``CLIPTextModelWithProjection``, for diffusers' pipelines."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eclipse_pl.encoders.openclip import OpenClipEncoder

PROBES = ["", "a red circle above two blue squares", "A photo of an old dog on a wooden bench, looking at the sea."]
TOLERANCE = 1e-3
"""Largest allowed difference, relative to the largest number. The two libraries round differently."""


def text_model_of(encoder: OpenClipEncoder) -> Any:
    """The tower and its weights in transformers' class, float32, on the CPU.

    Raises:
        ValueError: The class lacks parts of the tower, or the result encodes captions differently.
    """
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    tower, empty = encoder.tower, encoder.tokenize([""])
    blocks = tower.transformer.resblocks
    activation = type(blocks[0].mlp.gelu).__name__
    if activation not in ACTIVATIONS:
        raise ValueError(f"{encoder.name} has the activation {activation}; transformers' CLIP has {', '.join(ACTIVATIONS)}.")
    vocabulary, width = tower.token_embedding.weight.shape
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=blocks[0].mlp.c_fc.out_features,
        projection_dim=encoder.dim,
        num_hidden_layers=len(blocks),
        num_attention_heads=blocks[0].attn.num_heads,
        max_position_embeddings=encoder.context_length,
        hidden_act=ACTIVATIONS[activation],
        layer_norm_eps=tower.ln_final.eps,
        bos_token_id=int(empty.ids[0, 0]),
        eos_token_id=int(empty.ids[0, empty.lengths[0] - 1]),
        pad_token_id=int(empty.ids[0, -1]),
    )
    model = CLIPTextModelWithProjection(config).eval()
    with torch.no_grad():
        for ours, theirs in zip(tower_tensors(tower), text_model_tensors(model), strict=True):
            theirs.copy_(ours)
    require_same_text(encoder, model)
    return model


ACTIVATIONS = {"GELU": "gelu", "QuickGELU": "quick_gelu"}


def tower_tensors(tower: Any) -> list[Tensor]:
    """All weights of open_clip's tower, in the order of `text_model_tensors`."""
    projection = tower.text_projection
    tensors = [tower.token_embedding.weight, tower.positional_embedding]
    for block in tower.transformer.resblocks:
        attention = block.attn
        tensors += [*attention.in_proj_weight.chunk(3), *attention.in_proj_bias.chunk(3)]
        tensors += [
            p for part in (attention.out_proj, block.ln_1, block.ln_2, block.mlp.c_fc, block.mlp.c_proj) for p in _both(part)
        ]
    return [*tensors, *_both(tower.ln_final), projection.weight if isinstance(projection, nn.Module) else projection.T]


def text_model_tensors(model: Any) -> list[Tensor]:
    """All weights of transformers' model, in the order of `tower_tensors`."""
    text = model.text_model
    tensors = [text.embeddings.token_embedding.weight, text.embeddings.position_embedding.weight]
    for layer in text.encoder.layers:
        attention = layer.self_attn
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        tensors += [part.weight for part in parts] + [part.bias for part in parts]
        rest = (attention.out_proj, layer.layer_norm1, layer.layer_norm2, layer.mlp.fc1, layer.mlp.fc2)
        tensors += [p for part in rest for p in _both(part)]
    return [*tensors, *_both(text.final_layer_norm), model.text_projection.weight]


def _both(part: Any) -> list[Tensor]:
    return [part.weight, part.bias]


@torch.no_grad()
def require_same_text(encoder: OpenClipEncoder, model: Any) -> None:
    """Raise ValueError unless both encode a few captions equally. transformers' class has no layer scale, for example."""
    tokens = encoder.tokenize(PROBES)
    copied, text = model(tokens.ids), encoder.encode_tokens(tokens).to("cpu")
    real = torch.arange(encoder.context_length) < tokens.lengths[:, None]
    for ours, theirs in ((text.text_embed, copied.text_embeds), (text.text_states, copied.last_hidden_state[real])):
        if not bool((ours - theirs).abs().max() <= TOLERANCE * ours.abs().max()):
            raise ValueError(
                f"The text tower of {encoder.name} has parts that transformers' CLIPTextModelWithProjection lacks: its copy "
                "encodes captions differently. Export with --base FOLDER, a pipeline whose text encoder belongs to this space."
            )


def tokenizer_of(encoder: OpenClipEncoder) -> Any:
    """A transformers tokenizer that gives the same ids, padded and truncated at the context.

    For OpenAI's byte pairs it differs in texts that open_clip repairs first: curly quotes, and text in a wrong encoding.
    """
    from transformers import CLIPTokenizer

    theirs = getattr(encoder.tokenizer, "tokenizer", None)
    if theirs is not None:  # a Hugging Face tokenizer inside open_clip's wrapper
        theirs.model_max_length = encoder.context_length
        return theirs
    simple = encoder.tokenizer  # OpenAI's byte pairs, whose first and last token have another name in each library
    spelling = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {spelling.get(token, token): number for token, number in simple.encoder.items()}
    merges = "\n".join(" ".join(pair) for pair in simple.bpe_ranks)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        (Path(folder) / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
        special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
        (Path(folder) / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": encoder.context_length, **special})
        )
        return CLIPTokenizer.from_pretrained(folder)
