"""Shards of token ids: the text tower runs in training, and is no part of what is trained."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.strategies import DDPStrategy

from data_prep.__main__ import main as data_prep
from eclipse_pl.__main__ import main as command
from eclipse_pl.callbacks.measure import measure
from eclipse_pl.cli import main
from eclipse_pl.data.chunk import Chunk
from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.data.manifest import SPACE_NAME, Manifest
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.data.shards import ShardWriter
from eclipse_pl.embedding import EmbeddingBatch
from eclipse_pl.encoders.encoder import Tokens
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.lit_prior import LitPrior
from eclipse_pl.priors import EclipsePrior
from eclipse_pl.world.datamodule import WorldDataModule
from eclipse_pl.world.encoder import WorldEncoder
from tests.helpers.raw_sets import raw_set, read_all
from tests.helpers.recorder import data_of, epochs_of, fit, trainer_of
from tests.helpers.runs import write_experiment
from tests.helpers.shard_sets import MADE_BY, make_shard_set
from tests.test_resume import assert_same_run

WORDS = ["red", "blue", "a dog", "of paper", "under", "the table", "photographed", "42"]


def make_token_set(folder: Path, encoder: OpenClipEncoder, splits: dict[str, int], chunk: int = 16) -> Path:
    """Captions of one to twelve words, encoded by the tower, beside embeddings of no image."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with ShardWriter(folder / "0000.tar", "tokens") as writer:
        for split, pairs in splits.items():
            for first in range(0, pairs, chunk):
                count = min(chunk, pairs - first)
                captions = [" ".join(rng.choice(WORDS, rng.integers(1, 13))) for _ in range(count)]
                tokens = encoder.tokenize(captions)
                made = Chunk(
                    image_embed=rng.normal(size=(count, encoder.dim)),
                    text_embed=encoder.encode_tokens(tokens).text_embed.numpy(),
                    text_states=None,
                    token_ids=tokens.packed_ids().numpy(),
                    lengths=tokens.lengths.numpy(),
                    captions=captions,
                    keys=[f"{split}{first + row}" for row in range(count)],
                )
                writer.write(made, split)
        entry = writer.close()
    space = encoder.space(torch.zeros(encoder.dim), torch.ones(encoder.dim))
    space.save(folder / SPACE_NAME)
    Manifest(space.identity, MADE_BY, [entry]).save(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, clip_encoder: OpenClipEncoder) -> Path:
    return make_token_set(tmp_path_factory.mktemp("ids") / "shards", clip_encoder, {"train": 70, "val": 20, "test": 11})


def captions_of(folder: Path) -> list[str]:
    """By the number of the pair."""
    shards = ShardSet(folder)
    return [caption for record in range(len(shards.entries)) for caption in shards.read_chunk(record).captions]


def require_encoded(batch: EmbeddingBatch, folder: Path, encoder: OpenClipEncoder) -> None:
    shards, captions = ShardSet(folder), captions_of(folder)
    chunks = [shards.read_chunk(record).text_embed for record in range(len(shards.entries))]
    pooled = torch.from_numpy(np.concatenate(chunks))[batch.index].float()
    expected = encoder.encode_text([captions[number] for number in batch.index.tolist()])
    assert batch.text.text_states.dtype == batch.image_embed.dtype == torch.float32
    assert torch.equal(batch.text.lengths, expected.lengths)
    assert batch.text.bounds == (int(expected.lengths.min()), int(expected.lengths.max()))
    torch.testing.assert_close(batch.text.text_states, expected.text_states, atol=1e-6, rtol=1e-6)
    assert torch.equal(batch.text.text_embed, pooled), "pooled embeddings are those of the shards"
    # float16 may round another way than after an encoding in other batches
    torch.testing.assert_close(batch.text.text_embed, expected.text_embed, atol=1e-6, rtol=2**-10)
    assert not batch.text.text_states.requires_grad


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_packed_ids_are_the_padded_ones(lengths: list[int]) -> None:
    ids = torch.arange(1, sum(lengths) + 1)
    tokens = Tokens.packed(ids, torch.tensor(lengths))
    assert tokens.ids.shape == (len(lengths), max(lengths))
    assert torch.equal(tokens.packed_ids(), ids)
    assert [int((row > 0).sum()) for row in tokens.ids] == lengths


def test_embed_stores_token_ids(tmp_path: Path, clip_folder: Path, clip_encoder: OpenClipEncoder, capsys: Any) -> None:
    clip = ["--encoder.model", f"local-dir:{clip_folder}", "--encoder.pretrained", "null", "--encoder.device", "cpu"]
    common = ["embed", "--source", *raw_set(tmp_path / "raw", tars=2), *clip, "--workers", "0", "--val", "0.2"]
    assert data_prep([*common, "--out", f"{tmp_path}/states"]) == 0
    assert data_prep([*common, "--out", f"{tmp_path}/ids", "--states", "tokens"]) == 0
    exact, stored = read_all(tmp_path / "states"), read_all(tmp_path / "ids")
    assert list(exact) == list(stored)
    for key, pair in exact.items():
        tokens = clip_encoder.tokenize([pair["caption"]])
        assert stored[key]["states"].tolist() == tokens.ids[0, : tokens.lengths[0]].tolist()
        assert torch.equal(pair["image"], stored[key]["image"]) and torch.equal(pair["text"], stored[key]["text"])
    assert {"token_ids.npy"} == set(ShardSet(tmp_path / "ids").entries[0].members) - set(
        ShardSet(tmp_path / "states").entries[0].members
    )
    assert (tmp_path / "ids" / SPACE_NAME).read_bytes() == (tmp_path / "states" / SPACE_NAME).read_bytes()
    capsys.readouterr()
    assert data_prep(["verify", f"{tmp_path}/ids"]) == 0
    assert "tokens as ids" in capsys.readouterr().out


def test_gathered_ids_are_those_of_the_rows(folder: Path, clip_encoder: OpenClipEncoder) -> None:
    shards, captions = ShardSet(folder), captions_of(folder)
    random = np.random.default_rng(0)
    for count in (1, 2, 5, 30, 200):  # in any order, and again
        numbers = random.integers(0, len(shards), count)
        records = np.searchsorted(shards.record_starts, numbers, side="right") - 1
        found = shards.gather_ids(records, numbers - shards.record_starts[records])
        tokens = clip_encoder.tokenize([captions[number] for number in numbers])
        assert found.lengths.tolist() == tokens.lengths.tolist()
        assert found.ids.tolist() == tokens.packed_ids().tolist()


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.processes)])
def test_batches_hold_encoded_captions(folder: Path, clip_encoder: OpenClipEncoder, workers: int) -> None:
    data = data_of(folder, encoder=clip_encoder, workers=workers)
    order = [batch.index.tolist() for batch in epochs_of(data_of(folder, encoder=clip_encoder), 2)]
    batches = list(epochs_of(data, 2))
    assert [batch.index.tolist() for batch in batches] == order
    for batch in [*batches, *data.val_dataloader(), *data.test_dataloader(), *data.single_pass(with_states=True)]:
        require_encoded(batch, folder, clip_encoder)
    assert all(not len(batch.text.text_states) for batch in data.single_pass())
    assert next(iter(data.val_dataloader())).captions is not None


def test_the_order_is_that_of_token_states(folder: Path, tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    with ShardWriter(tmp_path / "0000.tar") as writer:
        for chunk in (ShardSet(folder).read_chunk(record) for record in range(5)):
            states = np.zeros((chunk.tokens, clip_encoder.text_width))
            writer.write(replace(chunk, token_ids=None, text_states=states), "train")
        entry = writer.close()
    space = ShardSet(folder).space
    space.save(tmp_path / SPACE_NAME)
    Manifest(space.identity, MADE_BY, [entry]).save(tmp_path)
    ours = [batch.index.tolist() for batch in epochs_of(data_of(folder, encoder=clip_encoder), 2)]
    assert ours == [batch.index.tolist() for batch in epochs_of(data_of(tmp_path), 2)]


def test_gradients_equal_those_of_exact_states(folder: Path, clip_encoder: OpenClipEncoder) -> None:
    captions = captions_of(folder)
    torch.manual_seed(0)
    prior = EclipsePrior(ShardSet(folder).space, num_layers=2, num_attention_heads=2, attention_head_dim=8, noise="zero")
    gradients = []
    for batch in epochs_of(data_of(folder, encoder=clip_encoder), 1):
        exact = [clip_encoder.encode_text([captions[number]]).text_states for number in batch.index.tolist()]
        assert len({len(states) for states in exact}) > 1
        stored = replace(batch, text=replace(batch.text, text_states=torch.cat(exact)))
        for one in (batch, stored):
            prior.zero_grad()
            prior.losses(one)["total"].backward()
            gradients.append(torch.cat([parameter.grad.flatten() for parameter in prior.parameters()]))
        ours, expected = gradients[-2:]
        assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()
    assert gradients[0].norm() > 0.1 and not torch.allclose(gradients[0], gradients[2], atol=1e-3)


class Watch(L.Callback):
    """Keeps what the strategy trains."""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.model = trainer.strategy.model


def test_the_tower_is_no_part_of_what_is_trained(folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    encoder = OpenClipEncoder(f"local-dir:{clip_folder}", None, device="cpu")
    before = {name: tensor.clone() for name, tensor in encoder.model.state_dict().items()}
    prior = EclipsePrior(encoder.space(torch.zeros(16), torch.ones(16)), num_layers=1, num_attention_heads=2)
    module, watch = LitPrior(prior, torch.optim.AdamW), Watch()
    names = set(module.state_dict())
    strategy = DDPStrategy(process_group_backend="gloo")
    with mock.patch.dict(os.environ):  # Lightning leaves the address of the process group there
        trainer = trainer_of(max_epochs=1, limit_val_batches=1, strategy=strategy, devices=1, callbacks=[watch])
        trainer.fit(module, datamodule=data_of(folder, encoder=encoder))
        torch.distributed.destroy_process_group()
    assert isinstance(watch.model, torch.nn.parallel.DistributedDataParallel)
    trained = {id(parameter) for parameter in watch.model.parameters()}
    assert trained == {id(parameter) for parameter in prior.parameters()}
    assert not trained & {id(parameter) for parameter in encoder.model.parameters()}
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in encoder.model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.model.state_dict().items())
    assert set(module.state_dict()) == names and not module.hparams
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    checkpoint = torch.load(tmp_path / "run.ckpt", weights_only=True)
    assert set(checkpoint["state_dict"]) == names
    assert (tmp_path / "run.ckpt").stat().st_size < 4 * sum(tensor.numel() for tensor in before.values()) / 2
    assert len(checkpoint["optimizer_states"][0]["state"]) == len(list(prior.parameters()))


def options_of(clip_folder: Path) -> dict[str, Any]:
    clip = {"model": f"local-dir:{clip_folder}", "pretrained": None, "device": "cpu"}
    return {"class_path": "eclipse_pl.encoders.openclip.OpenClipEncoder", "init_args": clip}


@pytest.mark.long
def test_a_stopped_run_resumes_exactly(folder: Path, tmp_path: Path, clip_folder: Path) -> None:
    runs = []
    for stops in ((10,), (3, 10)):
        place = tmp_path / str(len(stops))
        place.mkdir()
        (place / "shards").symlink_to(folder)
        experiment = write_experiment(place, data__init_args__encoder=options_of(clip_folder))
        runs.append(place / "runs" / "tiny" / "version_0")
        for number, stop in enumerate(stops):
            resumed = ["--ckpt_path", str(runs[-1])] if number else []
            main(["fit", "--config", str(experiment), f"--trainer.max_steps={stop}", *resumed])
    assert_same_run(runs[1], runs[0])
    main(["validate", "--config", str(runs[0] / "config.yaml"), "--ckpt_path", str(runs[0])])


def test_a_data_module_without_encoder(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tag = ShardSet(folder).space.encoder
    sentence = rf"holds token ids, and no encoder is given.*Set data.encoder to that of the shards, {tag}"
    for read in ("train_dataloader", "val_dataloader", "single_pass"):
        with pytest.raises(ValueError, match=sentence):
            next(iter(getattr(data_of(folder), read)()))
    prior = EclipsePrior(ShardSet(folder).space, num_layers=1)
    with pytest.raises(ValueError, match=sentence):
        measure(prior, str(folder))
    with pytest.raises(ValueError, match=r"holds token ids instead of token states.*EmbeddingDataModule\(.*encoder=\.\.\."):
        ShardSet(folder).gather(np.array([0]), np.array([0]))
    (tmp_path / "shards").symlink_to(folder)
    assert command(["fit", "--config", str(write_experiment(tmp_path))]) == 2
    said = capsys.readouterr().err
    assert "Set data.encoder to that of the shards" in said and "Traceback" not in said


def test_measure_takes_the_data_module(folder: Path, clip_encoder: OpenClipEncoder) -> None:
    prior = EclipsePrior(ShardSet(folder).space, num_layers=1, noise="zero")
    rows = measure(prior, data_of(folder, encoder=clip_encoder), ridge_pairs=70)
    captions, shards = captions_of(folder), ShardSet(folder)
    val = [(row, chunk) for chunk in map(shards.read_chunk, shards.records("val")) for row in range(len(chunk))]
    images = torch.stack([torch.tensor(chunk.image_embed[row]).float() for row, chunk in val])
    predicted = prior.sample(clip_encoder.encode_text(captions[70:90]))
    assert rows["this prior"]["all"]["cosine"] == pytest.approx(
        float(torch.cosine_similarity(predicted, images).mean()), abs=1e-5
    )
    assert "ridge" in rows


def test_an_encoder_for_token_states(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    for states in ("float16", "int8"):
        make_shard_set(tmp_path / states, pairs=20, states=states)
        with pytest.raises(ValueError, match=r"data.encoder is .*holds token states, which are encoded already"):
            data_of(tmp_path / states, encoder=clip_encoder).train_dataloader()


def test_an_encoder_of_another_space(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"The set of shards .* belongs to tiny .* and the encoder is open_clip:local-dir"):
        data_of(folder, encoder=WorldEncoder(device="cpu")).val_dataloader()


def test_a_shard_holds_what_it_was_opened_for(tmp_path: Path, folder: Path) -> None:
    ids = ShardSet(folder).read_chunk(0)
    states = replace(ids, token_ids=None, text_states=np.zeros((ids.tokens, 32)))
    with ShardWriter(tmp_path / "0000.tar") as writer:
        with pytest.raises(ValueError, match="it holds token ids, and a shard of float16 stores token states"):
            writer.write(ids, "train")
        with pytest.raises(ValueError, match="it holds text_states and token_ids; it needs one of them"):
            writer.write(replace(ids, text_states=states.text_states), "train")
        with pytest.raises(ValueError, match="it holds neither text_states nor token_ids"):
            writer.write(replace(ids, token_ids=None), "train")
    with ShardWriter(tmp_path / "0001.tar", "tokens") as writer:
        with pytest.raises(ValueError, match="it holds token states, and a shard of tokens stores token ids"):
            writer.write(states, "train")
        with pytest.raises(ValueError, match="token_ids holds negative numbers"):
            writer.write(replace(ids, token_ids=-1 - ids.token_ids), "train")
        with pytest.raises(ValueError, match=r"lengths add up to \d+, but token_ids has 3 rows"):
            writer.write(replace(ids, token_ids=ids.token_ids[:3]), "train")


@pytest.mark.long
def test_the_world_as_token_ids(tmp_path: Path) -> None:
    sizes = {"train_pairs": 24, "val_pairs": 8, "test_pairs": 8, "batch_size": 8, "workers": 0}
    world = WorldDataModule(str(tmp_path), **sizes, states="tokens")
    fit(world, max_epochs=1)
    assert world.encoder is not None and world.shards.states == "tokens"
    assert "--states tokens" in world.shards.manifest.made_by
    with pytest.raises(ValueError, match=r"stores captions as tokens, and data.states is float16"):
        WorldDataModule(str(tmp_path), **sizes).prepare_data()
    alone = EmbeddingDataModule(str(tmp_path), batch_size=8, workers=0, encoder=world.encoder)
    assert len(next(iter(alone.val_dataloader())).text.text_states)
