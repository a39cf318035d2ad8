"""open_clip text towers in transformers' class: the same captions, tokens and states."""

from __future__ import annotations

import pytest
import torch

from eclipse_pl.encoders.clip_text import text_model_of, tokenizer_of
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.world.encoder import WorldEncoder
from tests.helpers.real_data import RealData

pytestmark = pytest.mark.long

ODD = ["", "A RED Circle", "naïve café — 'quoted'", "it's 3 o'clock & raining", "word " * 100, "日本 🙂"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def openai_sized() -> OpenClipEncoder:
    return OpenClipEncoder("ViT-B-32", pretrained="random", device="cpu")


@pytest.mark.parametrize("make", [openai_sized, lambda: WorldEncoder(device="cpu")], ids=["byte pairs", "world"])
def test_captions_are_encoded_alike(make) -> None:
    encoder = make()
    model, tokenizer = text_model_of(encoder), tokenizer_of(encoder)
    captions = ["a photo of two dogs", "a large dotted green square above an orange heart", *ODD[:4]]
    tokens = tokenizer(
        captions, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    expected = encoder.encode_text(captions)
    real = tokens.attention_mask.bool()
    assert torch.equal(real.sum(1), expected.lengths)
    with torch.no_grad():
        said = model(tokens.input_ids)
    scale = float(expected.text_states.abs().max())
    torch.testing.assert_close(said.text_embeds, expected.text_embed, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(said.last_hidden_state[real], expected.text_states, atol=1e-5 * scale, rtol=1e-4)


def ids(encoder: OpenClipEncoder, captions: list[str]) -> tuple[list[list[int]], list[list[int]]]:
    tokenizer, ours = tokenizer_of(encoder), encoder.tokenize(captions)
    theirs = tokenizer(captions, max_length=tokenizer.model_max_length, truncation=True).input_ids
    return [row[:length].tolist() for row, length in zip(ours.ids, ours.lengths.tolist(), strict=True)], theirs


def test_odd_captions_have_the_same_tokens(clip_encoder: OpenClipEncoder) -> None:
    ours, theirs = ids(clip_encoder, ODD)
    assert ours == theirs
    assert tokenizer_of(clip_encoder).model_max_length == clip_encoder.context_length


def test_real_captions_have_the_same_tokens(real_data: RealData) -> None:
    captions = real_data("coco/captions_val2017.txt").read_text(encoding="utf-8").splitlines()[:5000]
    ours, theirs = ids(openai_sized(), captions)
    assert ours == theirs


def test_a_tower_that_transformers_cannot_hold() -> None:
    encoder = openai_sized()
    encoder.tower.transformer.resblocks[3].ls_1 = torch.nn.LayerNorm(512)  # stands for layer scale
    with pytest.raises(ValueError, match="has parts that transformers' CLIPTextModelWithProjection lacks"):
        text_model_of(encoder)
    encoder.tower.transformer.resblocks[0].mlp.gelu = torch.nn.SiLU()
    with pytest.raises(ValueError, match="has the activation SiLU; transformers' CLIP has GELU, QuickGELU"):
        text_model_of(encoder)
