"""BlipVqaScorer: questions as the official script asks them, answers as transformers gives them one by one, the product."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch

from eclipse_pl.scorers.blip_vqa import BlipVqaScorer, attends, pack, question_of, squashed
from eclipse_pl.speed import scorers as speed_scorers
from tests.helpers.tiny_scorers import WORDS, prompt, tiny_blip, tiny_image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_blip(tmp_path_factory.mktemp("scorer") / "tiny-blip")


@pytest.mark.parametrize(
    ("phrase", "question"),
    [
        ("a green bench", "a green bench?"),
        ("The Red car.", "the red car?"),
        ('"so" (called)* art: #1; ~!', "so called art 1 ?"),
        ("the tall, well-known dog's bed", "the tall, well-known dog's bed?"),
        ("word " * 60, " ".join(["word"] * 50)),
    ],
)
def test_questions(phrase: str, question: str) -> None:
    assert question_of(phrase) == question


def test_images_are_squashed_as_by_torchvision() -> None:
    """The transforms of BLIP's own code, with the constants that open_clip has for OpenAI's models."""
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
    from torchvision import transforms

    transform = transforms.Compose(
        [
            transforms.Resize((48, 48), transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(OPENAI_DATASET_MEAN, OPENAI_DATASET_STD),
        ]
    )
    images = [tiny_image(0), tiny_image(1, (40, 70))]
    torch.testing.assert_close(squashed(images, 48), torch.stack([transform(image) for image in images]))


def one_by_one(folder: Path, question: str, enc_token: str, resolution: int, image: Any) -> float:
    """A full pass of transformers' model for one question, step by step as its ``forward`` goes, which drops the logits."""
    from transformers import BertTokenizer, BlipForQuestionAnswering

    model = BlipForQuestionAnswering.from_pretrained(folder).eval()
    tokenizer = BertTokenizer.from_pretrained(folder)
    ids = tokenizer(question, return_tensors="pt").input_ids
    if enc_token == "official":
        ids[0, 0] = len(WORDS) + 1
    with torch.no_grad():
        pixels = squashed([image], resolution)
        seen = model.vision_model(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state
        states = model.text_encoder(
            input_ids=ids, attention_mask=torch.ones_like(ids), encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:2]),
        ).last_hidden_state  # fmt: skip
        logits = model.text_decoder(
            input_ids=torch.tensor([[len(WORDS)]]), encoder_hidden_states=states, encoder_attention_mask=torch.ones_like(ids)
        ).logits[0, 0]
    yes, no = logits[WORDS.index("yes")], logits[WORDS.index("no")]
    return float(torch.sigmoid(yes - no))


@pytest.mark.parametrize(("enc_token", "resolution"), [("official", 48), ("hf", 32)])
def test_packed_questions_get_the_answers_of_single_ones(folder: Path, enc_token: Any, resolution: int) -> None:
    images = [tiny_image(0), tiny_image(1, (40, 70)), tiny_image(2)]
    questions = [
        ["a green bench?", "the bowl?", "a red circle and a blue star on the table?"],
        ["a blue star?"],
        ["cat?", "dog?"],
    ]
    scorer = BlipVqaScorer(str(folder), enc_token=enc_token, resolution=resolution, device="cpu")
    with torch.inference_mode():
        answers = scorer.blip.probability_of_yes(images, questions)
    assert [len(of_image) for of_image in answers] == [3, 1, 2]
    for image, asked, of_image in zip(images, questions, answers, strict=True):
        expected = [one_by_one(folder, question, enc_token, resolution, image) for question in asked]
        assert of_image == pytest.approx(expected, abs=1e-5)


def test_score_is_the_product_over_the_first_noun_phrases(folder: Path) -> None:
    phrases = ("a green bench", "a blue bowl", "the star")
    (all_three,) = BlipVqaScorer(str(folder), resolution=32).score([tiny_image()], [prompt(phrases=phrases)])
    yes = all_three.evidence["yes"]
    assert all_three.evidence["questions"] == ["a green bench?", "a blue bowl?", "the star?"]
    assert yes == [round(p, 4) for p in yes] and all_three.value == round(yes[0] * yes[1] * yes[2], 4)
    (two,) = BlipVqaScorer(str(folder), max_noun_phrases=2, resolution=32).score([tiny_image()], [prompt(phrases=phrases)])
    assert two.evidence["yes"] == yes[:2] and two.value == round(yes[0] * yes[1], 4)


def test_a_question_has_at_most_35_tokens(folder: Path) -> None:
    """With those at both ends."""
    blip, end = BlipVqaScorer(str(folder), resolution=32).blip, WORDS.index("[SEP]")
    for words, tokens in ((33, 35), (34, 35), (32, 34)):
        ids = blip.tokens(" ".join(["cat"] * words)).tolist()
        assert len(ids) == tokens and ids[-1] == end


def test_tokens_attend_within_their_question_only() -> None:
    owner, place = pack([[2, 1], [2]])
    assert owner.tolist() == [[0, 0, 1], [0, 0, -1]] and place.tolist() == [[0, 1, 0], [0, 1, 0]]
    mask = attends(owner, torch.float32)
    assert (mask[0, 0] == 0).tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    assert mask.min() < -1e30 and (mask.max(-1).values == 0).all()  # no row is empty, which would give NaN


def test_vocabularies_without_the_tokens_are_refused(tmp_path: Path) -> None:
    without = tiny_blip(tmp_path / "without", extra_tokens=1)
    with pytest.raises(ValueError, match=r"no embedding for \[ENC\] \(id \d+\): set enc_token to hf"):
        BlipVqaScorer(str(without), resolution=32).require_ready()
    (without / "tokenizer.json").write_text((without / "tokenizer.json").read_text().replace('"yes"', '"yeah"'))
    with pytest.raises(ValueError, match="no tokens 'yes' and 'no'"):
        BlipVqaScorer(str(without), enc_token="hf", resolution=32).require_ready()


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"enc_token": "bert"}, "enc_token is 'bert'; choose one of 'official', 'hf'"),
        ({"max_noun_phrases": 0}, "max_noun_phrases is 0"),
        ({"resolution": 30}, "resolution is 30; tiny-blip has patches of 8 pixels"),
    ],
)
def test_bad_options(folder: Path, wrong: dict[str, Any], match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=match):
        BlipVqaScorer(str(folder), **wrong).require_ready()


def test_speed_row(tmp_path: Path, folder: Path) -> None:
    from transformers import BlipConfig

    config = BlipConfig.from_pretrained(folder)
    (row,) = speed_scorers.blip_vqa(speed_scorers.RandomBlip(config, tmp_path, 32, torch.device("cpu")), count=2, questions=3)
    assert (row.name, row.unit) == ("blip-vqa", "ms") and row.ours > 0 and row.peer > 0


@pytest.mark.slow
def test_eight_questions_are_four_times_as_fast_as_eight_passes() -> None:
    torch.set_num_threads(2)
    (row,) = speed_scorers.random_blip_vqa(torch.device("cpu"))
    assert row.ratio >= 4
