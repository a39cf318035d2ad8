"""BlipVqaScorer: T2I-CompBench's scorer of colour, shape and texture (BLIPvqa_eval; paper, section 4.1).

Each noun phrase gives one question, "a green bench?". The score of an image is the product of the probabilities of "yes"
against "no".
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from eclipse_pl.arguments import one_of
from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.scorers.network import PretrainedNetwork
from eclipse_pl.scorers.network_scorer import NetworkScorer
from eclipse_pl.scorers.scorer import Score

MAX_WORDS, MAX_TOKENS = 50, 35
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def question_of(phrase: str) -> str:
    """Return T2I-CompBench's question about a noun phrase, after its preprocessing: "The Red car." -> "the red car?"."""
    cleaned = re.sub(r'[.!"()*#:;~]', "", f"{phrase}?".lower()).rstrip(" ")
    return " ".join(cleaned.split(" ")[:MAX_WORDS])


class BlipVqaScorer(NetworkScorer):
    """The product over noun phrases of P(yes) / (P(yes) + P(no)), as T2I-CompBench's BLIP-VQA.

    Each image is encoded once. Its questions form one sequence in which each question attends to itself only, so the answers
    equal those of one pass per question.

    Args:
        path: Folder or hub id of a ``BlipForQuestionAnswering``. T2I-CompBench uses ``Salesforce/blip-vqa-capfilt-large``.
        max_noun_phrases: Most questions per image; the first ones count. The official default was 2 before December 2023.
        enc_token: First token of a question: ``official`` is BLIP's [ENC], as in the original code, ``hf`` is the tokenizer's
            [CLS], as in transformers.
        resolution: Side in pixels to which images are resized without cropping (official: 480, transformers: 384).
        batch_size: Images scored at a time.
        **options: Those of PretrainedNetwork.
    """

    def __init__(
        self,
        path: str,
        max_noun_phrases: int = 8,
        enc_token: Literal["official", "hf"] = "official",
        resolution: int = 480,
        batch_size: int = 16,
        **options: Any,
    ) -> None:
        one_of("enc_token", enc_token, ("official", "hf"))
        if max_noun_phrases < 1:
            raise ValueError(f"max_noun_phrases is {max_noun_phrases}; at least one question must be asked.")
        self.blip = BlipVqa(path, enc_token, resolution, **options)
        super().__init__([self.blip], batch_size)
        self.max_noun_phrases = max_noun_phrases

    @property
    def name(self) -> str:
        return f"blip_vqa@{self.blip.resolution}"

    @property
    def version(self) -> str:
        return f"{super().version}, max_noun_phrases {self.max_noun_phrases}, [ENC] {self.blip.enc_token}"

    def missing(self, prompt: Prompt) -> str | None:
        return None if prompt.phrases else "noun phrases"

    def score_batch(self, images: list[Image.Image], prompts: list[Prompt]) -> list[Score]:
        questions = [[question_of(phrase) for phrase in prompt.phrases[: self.max_noun_phrases]] for prompt in prompts]
        answers = self.blip.probability_of_yes(images, questions)
        scores = []
        for asked, yes in zip(questions, answers, strict=True):
            rounded = [round(p, 4) for p in yes]  # the official script writes answers with four decimals
            scores.append(Score(round(math.prod(rounded), 4), {"questions": asked, "yes": rounded}))
        return scores


class BlipVqa(PretrainedNetwork):
    """BLIP's three parts: image encoder, question encoder (attends to the image), answer decoder (attends to the question)."""

    classes = ("BlipForQuestionAnswering",)
    reads = ("tokenizer",)  # pixels are prepared by `squashed`

    def __init__(self, path: str, enc_token: str, resolution: int, **options: Any) -> None:
        super().__init__(path, **options)
        self.enc_token, self.resolution = enc_token, resolution

    def require_ready(self) -> None:
        super().require_ready()
        patch = self.config.vision_config.patch_size
        if self.resolution < patch or self.resolution % patch:
            raise ValueError(f"resolution is {self.resolution}; {self.name} has patches of {patch} pixels: choose a multiple.")
        _ = self.yes_no, self.first_token

    def build(self) -> Any:
        self.require_ready()
        return super().build()

    @cached_property
    def yes_no(self) -> list[int]:
        ids = [self.tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no")]
        if self.tokenizer.unk_token_id in ids:
            raise ValueError(f"The tokenizer in {self.folder} has no tokens 'yes' and 'no', which BLIP answers with.")
        return ids

    @cached_property
    def first_token(self) -> int | None:
        """[ENC], or None for the tokenizer's own token."""
        if self.enc_token == "hf":
            return None
        # the original code adds [DEC] and then [ENC] to BERT's vocabulary
        config = self.config.text_config
        if config.bos_token_id + 1 >= config.vocab_size:
            raise ValueError(f"{self.folder} has no embedding for [ENC] (id {config.bos_token_id + 1}): set enc_token to hf.")
        return int(config.bos_token_id + 1)

    def probability_of_yes(self, images: list[Image.Image], questions: list[list[str]]) -> list[list[float]]:
        """Return P(yes) / (P(yes) + P(no)) of every question about every image."""
        tokens = [[self.tokens(question) for question in asked] for asked in questions]
        counts = [len(asked) for asked in tokens]
        pixels = squashed(images, self.resolution).to(self.device, self.precision)
        seen = self.model.vision_model(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state
        packed = pad_sequence([torch.cat(asked) for asked in tokens], batch_first=True).to(self.device)
        owner, place = (part.to(self.device) for part in pack([[len(q) for q in asked] for asked in tokens]))
        reader = self.model.text_encoder
        states = reader.encoder(  # not its forward, which in some versions of transformers takes no mask of this shape
            reader.embeddings(input_ids=packed, position_ids=place),
            attention_mask=attends(owner, self.precision),
            encoder_hidden_states=seen,
        ).last_hidden_state
        single = [states[i, owner[i] == number] for i, count in enumerate(counts) for number in range(count)]
        yes = torch.empty(len(single), dtype=torch.float64, device=self.device)
        # Batches hold questions of one length: cross-attention in transformers 5 drops the mask that padding needs.
        for length in {len(question) for question in single}:
            rows = [i for i, question in enumerate(single) if len(question) == length]
            yes[rows] = self.answer(torch.stack([single[i] for i in rows]))
        return [part.tolist() for part in yes.split(counts)]

    def answer(self, states: Float[Tensor, "questions length width"]) -> Float[Tensor, " questions"]:
        """Return P(yes) / (P(yes) + P(no)) at the first token of the answer. The softmax over the vocabulary cancels."""
        start = torch.full((len(states), 1), self.model.config.text_config.bos_token_id, device=self.device)
        logits = self.model.text_decoder(input_ids=start, encoder_hidden_states=states).logits
        return logits[:, 0, self.yes_no].double().softmax(1)[:, 0]

    def tokens(self, question: str) -> Int[Tensor, " length"]:
        ids = torch.tensor(self.tokenizer(question, truncation=True, max_length=MAX_TOKENS).input_ids)
        if self.first_token is not None:
            ids[0] = self.first_token
        return ids


def squashed(images: Sequence[Image.Image], side: int) -> Float[Tensor, "images 3 side side"]:
    """Resize images to squares of ``side`` pixels, bicubic and uncropped, and normalise them as CLIP does."""
    squares = [np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)) for image in images]
    pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(CLIP_MEAN)[:, None, None]) / torch.tensor(CLIP_STD)[:, None, None]


def pack(lengths: list[list[int]]) -> tuple[Int[Tensor, "images tokens"], Int[Tensor, "images tokens"]]:
    """Return each token's question within its image (-1: padding), and its place within the question."""
    owner = [torch.repeat_interleave(torch.arange(len(of_image)), torch.tensor(of_image)) for of_image in lengths]
    place = [torch.cat([torch.arange(length) for length in of_image]) for of_image in lengths]
    return pad_sequence(owner, batch_first=True, padding_value=-1), pad_sequence(place, batch_first=True)


def attends(owner: Int[Tensor, "images tokens"], dtype: torch.dtype) -> Float[Tensor, "images 1 tokens tokens"]:
    """Return the attention bias: 0 where two tokens belong to one question, otherwise the lowest number."""
    apart = owner[:, None, :, None] != owner[:, None, None, :]
    return apart.to(dtype) * torch.finfo(dtype).min
