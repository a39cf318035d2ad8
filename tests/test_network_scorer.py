"""Loading scorers: folders and hub ids, refusals; rows that cannot be scored; no autocast, no gradient, freed memory."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch

from eclipse_pl.model_folder import find_weights, sha256_of_all
from eclipse_pl.scorers.blip_vqa import BlipVqaScorer
from eclipse_pl.scorers.depth import DptDepth
from eclipse_pl.scorers.feature_extractors import DinoFeatures
from eclipse_pl.scorers.pick_score import PickScorer
from eclipse_pl.scorers.scorer import Score
from eclipse_pl.scorers.vlm import VisionLanguageModel
from tests.helpers.tiny_scorers import (
    broken_image,
    prompt,
    tiny_blip,
    tiny_clip,
    tiny_dino,
    tiny_dpt,
    tiny_image,
    tiny_qwen,
)

PROMPT = prompt(phrases=("a green bench", "a blue bowl"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_blip(tmp_path_factory.mktemp("scorer") / "tiny-blip")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "tiny-blip"))


def blip_scorer(where: Path | str, **options: Any) -> BlipVqaScorer:
    return BlipVqaScorer(str(where), **{"resolution": 32, "device": "cpu", **options})


def one_score(where: Path | str) -> Score:
    (score,) = blip_scorer(where).score([tiny_image()], [PROMPT])
    return score


def test_rows_that_cannot_be_scored_are_reported_and_the_others_are_scored(folder: Path) -> None:
    unparsed = prompt("a thing", 7)
    images = [tiny_image(), broken_image(), tiny_image(), tiny_image(1).convert("L")]
    scores = blip_scorer(folder, batch_size=1).score(images, [PROMPT, PROMPT, unparsed, PROMPT])
    assert [score.failure is None for score in scores] == [True, False, False, True]
    assert all(math.isnan(score.value) == (score.failure is not None) for score in scores)
    assert "The image of prompt color/0000 cannot be read" in str(scores[1].failure)
    assert "Prompt color/0007 ('a thing') has no noun phrases, which blip_vqa@32 needs" in str(scores[2].failure)


def test_no_images_and_nothing_to_score_load_nothing(folder: Path) -> None:
    scorer = blip_scorer(folder)
    assert scorer.score([], []) == [] and scorer.score([tiny_image()], [prompt()])[0].failure
    assert "model" not in scorer.blip.__dict__


def test_scores_do_not_depend_on_autocast_or_batch_and_leave_no_gradient(folder: Path) -> None:
    images, prompts = [tiny_image(seed) for seed in range(5)], [PROMPT] * 5
    alone = blip_scorer(folder, batch_size=1).score(images, prompts)
    with torch.autocast("cpu", torch.bfloat16):
        scorer = blip_scorer(folder, batch_size=3)
        together = scorer.score(images, prompts)
    assert alone == together and len({score.value for score in alone}) == 5
    assert not any(parameter.requires_grad for parameter in scorer.blip.model.parameters())
    assert not torch.is_inference(next(scorer.blip.model.parameters())) and not scorer.blip.model.training


@pytest.mark.long
def test_close_frees_and_the_next_score_loads_again(folder: Path) -> None:
    scorer = blip_scorer(folder)
    before = scorer.score([tiny_image()], [PROMPT])
    scorer.close()
    assert "model" not in scorer.blip.__dict__
    assert scorer.score([tiny_image()], [PROMPT]) == before
    scorer.close()
    scorer.close()


def hash_of(folder: Path) -> str:
    return sha256_of_all(find_weights(folder, "model"))


def test_version_names_weights_and_options(folder: Path, copy: Path) -> None:
    assert blip_scorer(folder).version == blip_scorer(copy).version
    assert blip_scorer(folder).version != blip_scorer(folder, max_noun_phrases=2).version
    assert blip_scorer(folder, precision="bfloat16").version.count("bfloat16") == 1
    other = tiny_blip(copy, extra_tokens=3)
    assert hash_of(other) != hash_of(folder)


NETWORKS: list[tuple[Any, Any, dict[str, bool]]] = [
    (BlipVqaScorer, tiny_blip, {"tokenizer_config.json": True, "preprocessor_config.json": False}),
    (PickScorer, tiny_clip, {"tokenizer.json": True, "processor_config.json": True, "README.md": False}),
    (VisionLanguageModel, tiny_qwen, {"processor_config.json": True, "chat_template.jinja": True}),
    (DptDepth, tiny_dpt, {"preprocessor_config.json": True, "tokenizer_config.json": False}),
    (DinoFeatures, tiny_dino, {"preprocessor_config.json": False}),
]


@pytest.mark.parametrize(("kind", "write", "files"), NETWORKS, ids=[kind.__name__ for kind, _, _ in NETWORKS])
def test_version_names_the_files_that_prepare_the_input(kind: Any, write: Any, files: dict[str, bool], tmp_path: Path) -> None:
    """Another crop, vocabulary or chat template gives other scores by the same weights. A recipe reads none of them."""
    where = write(tmp_path / "tiny")
    whole = kind(str(where), device="cpu").version
    for name, read in files.items():
        before = (where / name).read_bytes() if (where / name).exists() else b""
        (where / name).write_bytes(before + b"\n")
        assert (kind(str(where), device="cpu").version != whole) is read, name
        (where / name).write_bytes(before) if before else (where / name).unlink()
    assert kind(str(where), device="cpu").version == whole


def test_hub_id_is_read_from_the_cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layout of huggingface_hub's cache; without a network it is all there is."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--owner--tiny-blip"
    snapshot = repository / "snapshots" / ("a" * 40)
    shutil.copytree(folder, snapshot)
    (repository / "refs" / "refs" / "pr").mkdir(parents=True)
    for reference in ("main", "refs/pr/1"):
        (repository / "refs" / reference).write_text("a" * 40)
    # weights are links to files that are named by their sha256
    weights = snapshot / "model.safetensors"

    blob = repository / "blobs" / hashlib.sha256(weights.read_bytes()).hexdigest()
    blob.parent.mkdir()
    weights.rename(blob)
    weights.symlink_to(blob)
    assert one_score("owner/tiny-blip") == one_score("owner/tiny-blip@refs/pr/1") == one_score(folder)
    assert blip_scorer("owner/tiny-blip").version == blip_scorer(folder).version
    with pytest.raises(ValueError, match=r"owner/other is no local folder, and could not be fetched.*pass its folder"):
        one_score("owner/other")


def test_missing_folders_get_near_matches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=rf"There is no folder .*tiny-blop.*Near it: {folder}"):
        one_score(folder.parent / "tiny-blop")
    monkeypatch.chdir(folder.parent.parent)
    with pytest.raises(ValueError, match=f"There is no folder .*Near it: {folder.parent.name}/tiny-blip"):
        one_score(f"{folder.parent.name}/tiny-blp")


def test_a_folder_of_another_class_is_one_sentence_naming_both(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "architectures": ["CLIPModel"]}))
    with pytest.raises(ValueError, match=r"tiny-blip holds CLIPModel, and this scorer works with BlipForQuestionAnswering\.$"):
        one_score(copy)
    (copy / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ValueError, match="holds a model of type 'gpt2', and this scorer works with Blip"):
        one_score(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        one_score(copy)
    (copy / "config.json").unlink()
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        one_score(copy)


def test_old_configs_name_their_type_only(copy: Path, folder: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config.pop("architectures")
    (copy / "config.json").write_text(json.dumps(config))
    assert one_score(copy) == one_score(folder)


@pytest.mark.processes
def test_pickles_are_refused_with_a_command_that_converts_them(copy: Path, folder: Path) -> None:
    from safetensors.torch import load_file

    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(weights, copy / "pytorch_model.bin")
    with pytest.raises(ValueError, match="as a pickle only") as refused:
        one_score(copy)
    command = str(refused.value).split("python -c ")[1].strip('"')
    subprocess.run([sys.executable, "-c", command], check=True)
    assert one_score(copy) == one_score(folder)


def test_weights_that_lack_tensors_are_refused(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    weights.pop("vision_model.embeddings.class_embedding")
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 of the tensors of BlipForQuestionAnswering, vision_model.*class_embedding"):
        one_score(copy)
    (copy / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(ValueError, match="could not be loaded as BlipForQuestionAnswering"):
        one_score(copy)


def test_sharded_weights(copy: Path, folder: Path) -> None:
    from transformers import BlipForQuestionAnswering

    BlipForQuestionAnswering.from_pretrained(folder).save_pretrained(copy, max_shard_size="50KB")
    (copy / "model.safetensors").unlink(missing_ok=True)
    assert len(find_weights(copy, "model")) > 1 and len(hash_of(copy)) == 16
    assert one_score(copy) == one_score(folder)
    find_weights(copy, "model")[1].unlink()
    with pytest.raises(ValueError, match="lacks model-00002-of"):
        one_score(copy)


def test_a_folder_without_tokenizer(copy: Path) -> None:
    for file in ("tokenizer.json", "vocab.txt", "tokenizer_config.json"):
        (copy / file).unlink()
    with pytest.raises(
        ValueError,
        match=r"has no AutoTokenizer that can be loaded \(none of tokenizer\.json.*processor into this folder",
    ):
        blip_scorer(copy).require_ready()


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"precision": "int8"}, "precision is 'int8'; choose one of 'float32', 'bfloat16', 'float16'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"device": "gpu"}, "device is 'gpu'; choose auto, cpu, cuda"),
    ],
)
def test_bad_options(folder: Path, wrong: dict[str, Any], match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=match):
        blip_scorer(folder, **wrong)


def test_a_gpu_that_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match=r"device is 'cuda:1', and torch finds no GPU\. Use auto or cpu"):
        blip_scorer(folder, device="cuda:1")
    assert blip_scorer(folder, device="auto").blip.device.type == "cpu"


def test_nothing_of_a_folder_is_run(copy: Path) -> None:
    """A config that asks for code of its own gets a class of transformers, or an error."""
    (copy / "evil.py").write_text(f"open({str(copy / 'ran')!r}, 'w')\nclass Evil: pass")
    config = json.loads((copy / "config.json").read_text())
    code = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "BlipForQuestionAnswering": "evil.Evil"}
    (copy / "config.json").write_text(json.dumps({**config, "auto_map": code}))
    one_score(copy)
    assert not (copy / "ran").exists()


def test_scores_are_plain() -> None:
    assert Score(0.5).failure is None and Score(0.5).evidence == {}
    assert math.isnan(Score.failed("why").value) and Score.failed("why").failure == "why"
