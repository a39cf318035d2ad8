"""OpenClipEncoder: against open_clip's own towers and transformers' CLIP text model; what bad input gets."""

from __future__ import annotations

import pickle
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from eclipse_pl.encoders.openclip import OpenClipEncoder
from tests.helpers.tiny_open_clip import write_open_clip

CAPTIONS = ["a red circle and a blue star", "", "A Photo of TWO dogs, running!", "word " * 75, "word " * 76, "x " * 200]
# ViT-L/14 has equal widths and QuickGELU; ViT-bigG/14 has a projection to another width, GELU, and the newer layout is `text.`
TOWERS: dict[str, dict[str, Any]] = {
    "like ViT-L/14": {"embed_dim": 32, "quick_gelu": True},
    "like ViT-bigG/14": {"embed_dim": 48},
    "newer layout, end token by id": {"embed_dim": 48, "custom_text": True, "text_cfg": {"pool_type": "eos", "eos_id": 49407}},
}


@pytest.fixture(scope="module", params=TOWERS, ids=lambda name: name.replace(" ", "-"))
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> OpenClipEncoder:
    folder = write_open_clip(tmp_path_factory.mktemp("clip") / "tiny", **TOWERS[request.param])
    return OpenClipEncoder(f"local-dir:{folder}", None, device="cpu")


def transformers_twin(model: Any) -> Any:
    """transformers' CLIPTextModelWithProjection with the weights of an open_clip text tower."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    tower = model if hasattr(model, "token_embedding") else model.text
    width, dim = tower.text_projection.shape
    block = tower.transformer.resblocks[0]
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=dim,
        num_hidden_layers=len(tower.transformer.resblocks),
        num_attention_heads=block.attn.num_heads,
        max_position_embeddings=77,
        hidden_act="quick_gelu" if type(block.mlp.gelu).__name__ == "QuickGELU" else "gelu",
        bos_token_id=49406,
        eos_token_id=49407,
    )
    state = {
        "text_model.embeddings.token_embedding.weight": tower.token_embedding.weight,
        "text_model.embeddings.position_embedding.weight": tower.positional_embedding,
        "text_model.final_layer_norm.weight": tower.ln_final.weight,
        "text_model.final_layer_norm.bias": tower.ln_final.bias,
        "text_projection.weight": tower.text_projection.T,
    }
    names = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    for i, block in enumerate(tower.transformer.resblocks):
        there = f"text_model.encoder.layers.{i}."
        for kind in ("weight", "bias"):
            for ours, theirs in {**names, "attn.out_proj": "self_attn.out_proj"}.items():
                state[f"{there}{theirs}.{kind}"] = block.get_parameter(f"{ours}.{kind}")
            parts = getattr(block.attn, f"in_proj_{kind}").chunk(3)
            for name, part in zip("qkv", parts, strict=True):
                state[f"{there}self_attn.{name}_proj.{kind}"] = part
    twin = CLIPTextModelWithProjection(config).eval()
    missing, unexpected = twin.load_state_dict(state, strict=False)
    assert not unexpected and all("position_ids" in name for name in missing)
    return twin


def test_token_states_are_those_of_transformers(encoder: OpenClipEncoder) -> None:
    """The same weights in transformers give the same states after the final layer norm, and the same pooled embedding."""
    ours, tokens = encoder.encode_text(CAPTIONS), encoder.tokenize(CAPTIONS)
    with torch.no_grad():
        theirs = transformers_twin(encoder.model)(input_ids=tokens.ids)
    real = torch.arange(77) < tokens.lengths[:, None]
    torch.testing.assert_close(ours.text_states, theirs.last_hidden_state[real], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.text_embed, theirs.text_embeds, atol=1e-5, rtol=1e-5)
    assert (ours.text_states.shape[1], ours.text_embed.shape[1]) == (encoder.text_width, encoder.dim)


def test_embeddings_are_open_clips_own_and_raw(encoder: OpenClipEncoder) -> None:
    pixels = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode_images(pixels), encoder.model.encode_image(pixels))
        ids = encoder.tokenizer(CAPTIONS)
        torch.testing.assert_close(
            encoder.encode_text(CAPTIONS).text_embed, encoder.model.encode_text(ids), atol=1e-6, rtol=1e-5
        )
    assert (encoder.encode_images(pixels).norm(dim=1) - 1).abs().min() > 1e-3


def test_a_caption_does_not_depend_on_its_neighbours(encoder: OpenClipEncoder) -> None:
    together = encoder.encode_text(CAPTIONS)
    for caption, condition in zip(CAPTIONS, together.split(), strict=True):
        alone = encoder.encode_text([caption])
        torch.testing.assert_close(alone.text_states, condition.text_states, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(alone.text_embed, condition.text_embed, atol=1e-6, rtol=1e-5)


def test_long_captions_are_cut_as_clip_cuts_them(clip_encoder: OpenClipEncoder) -> None:
    tokens = clip_encoder.tokenize(CAPTIONS)
    assert tokens.lengths.tolist()[1:] == [2, 10, 77, 77, 77]
    assert tokens.cut.tolist() == [False, False, False, False, True, True]
    assert tokens.ids[:, 0].eq(49406).all() and tokens.ids[torch.arange(6), tokens.lengths - 1].eq(49407).all()


@given(st.lists(st.text(max_size=300), min_size=1, max_size=4))
def test_ids_are_those_of_open_clips_tokenizer(captions: list[str]) -> None:
    tiny = _tokenizing()
    tokens = tiny.tokenize(captions)
    assert torch.equal(tokens.ids, tiny.tokenizer(captions))
    for caption, length, cut in zip(captions, tokens.lengths.tolist(), tokens.cut.tolist(), strict=True):
        words = len(tiny.tokenizer.encode(caption)) + 2
        assert (length, cut) == (min(words, 77), words > 77)


@cache
def _tokenizing() -> OpenClipEncoder:
    """An encoder without weights: what ``tokenize`` needs, hypothesis may share it between examples."""
    encoder = object.__new__(OpenClipEncoder)
    encoder.tokenizer, encoder.context_length = open_clip.get_tokenizer("ViT-B-32"), 77
    encoder.tower = type("Tower", (), {"pool_type": "argmax"})
    return encoder


def test_the_space_holds_empty_prompt_and_zero_image(clip_encoder: OpenClipEncoder) -> None:
    space = clip_encoder.space(torch.zeros(16), torch.ones(16))
    assert (space.name, space.dim, space.text_width, space.context_length, space.normalised) == ("tiny", 16, 32, 77, False)
    assert space.encoder == clip_encoder.tag and space.encoder.startswith("open_clip:local-dir:sha256-")
    torch.testing.assert_close(space.empty_prompt().text_embed, clip_encoder.encode_text([""]).text_embed)
    assert space.empty_prompt().lengths.tolist() == [2]
    torch.testing.assert_close(space.zero_image, clip_encoder.encode_images(torch.zeros(1, 3, 32, 32))[0])


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_is_close_and_still_float32(clip_encoder: OpenClipEncoder, clip_folder: Path, precision: Any) -> None:
    low = OpenClipEncoder(f"local-dir:{clip_folder}", None, precision=precision, device="cpu")
    pixels = torch.randn(4, 3, 32, 32)
    for ours, exact in (
        (low.encode_images(pixels), clip_encoder.encode_images(pixels)),
        (low.encode_text(CAPTIONS).text_embed, clip_encoder.encode_text(CAPTIONS).text_embed),
        (low.encode_text(CAPTIONS).text_states, clip_encoder.encode_text(CAPTIONS).text_states),
    ):
        assert ours.dtype == torch.float32 and not torch.equal(ours, exact)
        assert torch.nn.functional.cosine_similarity(ours, exact).min() > 0.999


def test_the_image_transform_travels_to_loader_workers(clip_encoder: OpenClipEncoder) -> None:
    image = Image.effect_noise((50, 70), 80).convert("RGB")
    copy = pickle.loads(pickle.dumps(clip_encoder.image_transform))
    assert copy(image).shape == (3, clip_encoder.image_size, clip_encoder.image_size)
    assert torch.equal(copy(image), clip_encoder.image_transform(image))


@pytest.mark.long
def test_local_checkpoints_and_random_weights(tmp_path: Path) -> None:
    once, again = (OpenClipEncoder("ViT-S-32-alt", "random", device="cpu") for _ in range(2))
    assert once.tag == again.tag and once.tag.startswith("open_clip:ViT-S-32-alt:random-sha256-")
    assert (once.name, once.dim, once.text_width, once.context_length, once.image_size) == (
        "ViT-S-32-alt/random",
        256,
        256,
        77,
        224,
    )
    file = tmp_path / "mine.pt"
    torch.save({"state_dict": once.model.half().state_dict()}, file)
    loaded = OpenClipEncoder("ViT-S-32-alt", str(file), device="cpu")
    assert loaded.name == "ViT-S-32-alt/mine" and loaded.tag.startswith("open_clip:ViT-S-32-alt:sha256-")
    pixels = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(loaded.encode_images(pixels), again.encode_images(pixels), atol=5e-3, rtol=5e-2)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("ViT-L-41", "openai"), r"no model 'ViT-L-41'\. Did you mean .*ViT-L-14"),
        (("ViT-L-14", "opnai"), r"'opnai' is neither a file nor a tag of ViT-L-14\. Did you mean openai"),
        (("ViT-L-14", "/no/such.pt"), "neither a file nor a tag"),
        (("ViT-L-14", None), "pretrained is null.*openai"),
        (("ViT-L-14-quickgelu", "laion2b_s32b_b82k"), "neither a file nor a tag|not trained with QuickGELU"),
        (("ViT-B-16-SigLIP", "webli"), "is not causal, or is not pooled at its end token"),
        (("roberta-ViT-B-32", "random"), "is not causal, or is not pooled at its end token"),
        (("local-dir:/no/such", None), r"There is no /no/such/open_clip_config\.json"),
    ],
)
def test_bad_arguments_get_one_clear_sentence(arguments: tuple[str, str | None], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        OpenClipEncoder(*arguments)


def test_a_local_folder_brings_its_weights(clip_folder: Path) -> None:
    with pytest.raises(ValueError, match="holds its weights"):
        OpenClipEncoder(f"local-dir:{clip_folder}", "openai")
    with pytest.raises(ValueError, match=r"There is no .*open_clip_model\.safetensors"):
        OpenClipEncoder(f"local-dir:{_without_weights(clip_folder)}", None)


@pytest.mark.parametrize(("content", "match"), [("{", "is not JSON"), ("[]", "no JSON object"), ("{}", "holds no model_cfg")])
def test_a_damaged_config_is_named(clip_folder: Path, tmp_path: Path, content: str, match: str) -> None:
    shutil.copytree(clip_folder, tmp_path / "clip")
    config = tmp_path / "clip" / "open_clip_config.json"
    config.write_text(content)
    with pytest.raises(ValueError, match=rf"{re.escape(str(config))} .*{match}"):
        OpenClipEncoder(f"local-dir:{tmp_path / 'clip'}", None)


def _without_weights(folder: Path) -> Path:
    bare = folder.parent / "bare"
    bare.mkdir(exist_ok=True)
    (bare / "open_clip_config.json").write_bytes((folder / "open_clip_config.json").read_bytes())
    return bare


def test_weights_of_another_model_or_of_none(tmp_path: Path, clip_folder: Path) -> None:
    rubbish = tmp_path / "rubbish.pt"
    rubbish.write_bytes(b"nothing of the kind")
    for file in (rubbish, clip_folder / "open_clip_model.safetensors"):
        with pytest.raises(ValueError, match="must hold all weights of exactly this model"):
            OpenClipEncoder("ViT-S-32-alt", str(file))


@pytest.mark.long
def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(ValueError, match="weights_only=True"):
        OpenClipEncoder("ViT-S-32-alt", str(tmp_path / "bomb.pt"))
    assert not (tmp_path / "exploded").exists()


def test_a_tag_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"ViT-B-32 with tag 'openai' could not be downloaded.*pass its path"):
        OpenClipEncoder("ViT-B-32", "openai")


def test_captions_move_the_text_tower_alone(clip_folder: Path) -> None:
    encoder = OpenClipEncoder(f"local-dir:{clip_folder}", None, device="cpu")
    encoder.device = torch.device("meta")  # in place of a GPU
    before = list(encoder.model.state_dict())
    encoder.place("text")
    places = {name: tensor.device.type for name, tensor in encoder.model.state_dict().items()}
    assert list(places) == before
    assert {place for name, place in places.items() if name.startswith("visual.")} == {"cpu"}
    assert {place for name, place in places.items() if not name.startswith("visual.")} == {"meta"}
    assert encoder.tower.attn_mask.device.type == "meta"
    encoder.place("image")
    assert all(parameter.is_meta for parameter in encoder.model.parameters())


def test_no_captions_at_all(encoder: OpenClipEncoder) -> None:
    with pytest.raises(ValueError, match=r"There is no caption to encode: give a text, or a list of texts\."):
        encoder([])
    assert len(encoder("")) == 1
