"""docs/clips.md: every model of the table, from its own config, against open_clip; every refused one with its reason."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image

from data_prep.world_models.clip import END, PAD, START, UNKNOWN, write_tokenizer
from eclipse_pl.encoders.openclip import OpenClipEncoder
from tests.helpers.tiny_open_clip import tiny_config, write_weights

PAGE = (Path(__file__).parent.parent / "docs/clips.md").read_text()
CAPTIONS = ["a red circle and a blue star", "", "A photo of TWO dogs, running!", "word " * 200]
TAGS = {"OpenAI": "openai", "LAION": "laion", "DataComp": "datacomp", "DFN": "dfn", "MetaCLIP": "metaclip", "Meta": "meta"}


def table(heading: str) -> list[list[str]]:
    """The cells of the rows of a table."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def models(row: list[str]) -> list[str]:
    """The models of open_clip that a row names or describes by a pattern."""
    patterns = re.findall("`([^`]+)`", row[0])
    found = {pattern: [name for name in open_clip.list_models() if fnmatch(name, pattern)] for pattern in patterns}
    assert all(found.values()), found
    return [name for names in found.values() for name in names]


TAKEN, REFUSED = ([name for row in table(heading) for name in models(row)] for heading in ("Taken", "Refused"))


def tiny_models() -> dict[str, dict[str, Any]]:
    """A config for each way to compute; its name is that of the first model."""
    configs: dict[str, dict[str, Any]] = {}
    for name in TAKEN:
        if (config := tiny_config(name)) not in configs.values():
            configs[name] = config
    return configs


def test_the_tables_hold_every_model_with_weights_once() -> None:
    with_weights = {name for name, _ in open_clip.list_pretrained()}
    assert with_weights <= {*TAKEN, *REFUSED}
    assert len({*TAKEN, *REFUSED}) == len([*TAKEN, *REFUSED])
    assert len(TAKEN) > 50 and len(REFUSED) > 40


@pytest.mark.parametrize("row", table("Taken"), ids=lambda row: row[0].split("`")[1])
def test_widths_and_weights_are_open_clips(row: list[str]) -> None:
    configs = [open_clip.get_model_config(name) for name in models(row)]
    numbers = {
        "E": [config["embed_dim"] for config in configs],
        "W": [config["text_cfg"]["width"] for config in configs],
        "tokens": [config["text_cfg"]["context_length"] for config in configs],
    }
    for cell, found in zip(row[2:], numbers.values(), strict=True):
        assert cell == (str(min(found)) if min(found) == max(found) else f"{min(found)} to {max(found)}"), (cell, found)
    tags = {tag for name in models(row) for tag in open_clip.list_pretrained_tags_by_model(name)}
    for source in row[1].partition(", many")[0].removesuffix(" 2").split(", "):
        assert any(tag.startswith(TAGS[source]) or TAGS[source] in tag for tag in tags), (source, tags)


@pytest.fixture(scope="module", params=tiny_models(), ids=str)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> OpenClipEncoder:
    config, folder = tiny_models()[request.param], tmp_path_factory.mktemp("clip") / "tiny"
    folder.mkdir()
    if "hf_tokenizer_name" in config["text_cfg"]:  # its start, padding and end token are 0, 1 and 2, as in XLM-V
        words = [f"word{number}" for number in range(40)]
        write_tokenizer(folder, [START, PAD, END, UNKNOWN, "a", "red", "circle", "and", "word", "dogs", *words])
    return OpenClipEncoder(f"local-dir:{write_weights(folder, config)}", None, device="cpu")


@pytest.mark.long
def test_states_and_embeddings_are_open_clips(encoder: OpenClipEncoder) -> None:
    """Also of a caption that is too long. open_clip computes all tokens of the context, we the real ones."""
    tokens, states = encoder.tokenize(CAPTIONS), []
    hook = encoder.tower.ln_final.register_forward_hook(lambda module, given, result: states.append(result))
    with torch.no_grad():
        embeds = encoder.model.encode_text(encoder.tokenizer(CAPTIONS))
    hook.remove()
    ours = encoder.encode_text(CAPTIONS)
    real = torch.arange(encoder.context_length) < tokens.lengths[:, None]
    torch.testing.assert_close(ours.text_states, states[0][real], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.text_embed, embeds, atol=1e-5, rtol=1e-5)
    assert (
        tokens.lengths[1] == 2 and tokens.lengths[3] == encoder.context_length and tokens.cut.tolist() == [False] * 3 + [True]
    )
    assert (ours.text_embed.shape[1], ours.text_states.shape[1]) == (encoder.dim, encoder.text_width)


@pytest.mark.long
def test_padding_and_neighbours_change_nothing(encoder: OpenClipEncoder) -> None:
    for caption, together in zip(CAPTIONS, encoder.encode_text(CAPTIONS).split(), strict=True):
        alone = encoder.encode_text([caption])
        torch.testing.assert_close(alone.text_states, together.text_states, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone.text_embed, together.text_embed, atol=1e-5, rtol=1e-5)


@pytest.mark.long
def test_images_are_open_clips(encoder: OpenClipEncoder) -> None:
    pixels = torch.stack([encoder.image_transform(Image.effect_noise((200, 170), 80).convert("RGB")) for _ in range(2)])
    assert pixels.shape == (2, 3, encoder.image_size, encoder.image_size)
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode_images(pixels), encoder.model.encode_image(pixels))
    assert encoder.encode_images(pixels).shape == (2, encoder.dim)


@pytest.mark.parametrize("model", REFUSED)
def test_the_others_are_refused_before_a_download(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_clip, "create_model", lambda *args, **options: pytest.fail("it was built"))
    tags = [*open_clip.list_pretrained_tags_by_model(model), "random"]
    with pytest.raises(ValueError, match=f"The text tower of {model} is not causal, or is not pooled at its end token"):
        OpenClipEncoder(model, tags[0])


def test_the_reasons_are_those_of_the_configs() -> None:
    for row in table("Refused"):
        for text in (open_clip.get_model_config(name)["text_cfg"] for name in models(row)):
            if row[1].startswith("not causal"):
                assert text.get("no_causal_mask") or "hf_model_name" in text, row
            assert ("last token of the context" in row[1]) <= (text.get("pool_type") == "last"), row
            assert row[1].startswith("pooled at an additional token") <= bool(text.get("embed_cls") or "hf_model_name" in text)
            assert row[1].startswith("another text tower") <= ("hf_model_name" in text), row


def test_a_local_model_of_another_tower_is_refused_by_its_config(tmp_path: Path) -> None:
    config = tiny_config("ViT-B-16-SigLIP") | {"text_cfg": open_clip.get_model_config("ViT-B-16-SigLIP")["text_cfg"]}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"not read")
    with pytest.raises(ValueError, match="is not causal"):
        OpenClipEncoder(f"local-dir:{tmp_path}", None)
