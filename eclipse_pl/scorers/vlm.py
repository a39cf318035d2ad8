"""Vision-language models as scorers: VQAScore, and the questions of `atom_questions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from eclipse_pl.arguments import one_of
from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.scorers.atom_questions import VERSION, Atom, arithmetic_mean, atom_questions, geometric_mean
from eclipse_pl.scorers.finite import require_finite
from eclipse_pl.scorers.network import Precision, PretrainedNetwork
from eclipse_pl.scorers.network_scorer import NetworkScorer
from eclipse_pl.scorers.scorer import Score


class VisionLanguageModel(PretrainedNetwork):
    """Any ``AutoModelForImageTextToText`` with a chat template (``Qwen/Qwen3-VL-4B-Instruct``)."""

    reads = ("both",)

    def accepted(self) -> tuple[str, ...]:
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as NAMES

        return tuple(name for names in NAMES.values() for name in ([names] if isinstance(names, str) else names))

    @cached_property
    def both(self) -> Any:
        """Processor of images and text. It pads on the left, so that the answer begins at the end of every row."""
        processor = self.processor("AutoProcessor")
        processor.tokenizer.padding_side = "left"
        if processor.tokenizer.pad_token is None:
            processor.tokenizer.pad_token = processor.tokenizer.eos_token
        if (getattr(processor, "chat_template", None) or processor.tokenizer.chat_template) is None:
            raise ValueError(f"{self.folder} has no chat template. Use an instruction-tuned model, which can chat.")
        return processor

    def answers(self, images: Sequence[Image.Image], questions: Sequence[str]) -> Float[Tensor, "questions vocabulary"]:
        """Return probabilities of the first token of the answer to each question about its image."""
        inputs = self.inputs([[image] for image in images], questions)
        logits: Tensor = self.model(**inputs, logits_to_keep=1).logits[:, -1]
        return require_finite(logits.float().softmax(1))

    def write(self, images: Sequence[Sequence[Image.Image]], questions: Sequence[str], max_tokens: int) -> list[str]:
        """Return the likeliest answer to each question about its images, of at most ``max_tokens`` tokens."""
        inputs = self.inputs(images, questions)
        tokens = self.model.generate(
            **inputs, max_new_tokens=max_tokens, do_sample=False, pad_token_id=self.both.tokenizer.pad_token_id
        )
        answers: list[str] = self.both.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return answers

    def inputs(self, images: Sequence[Sequence[Image.Image]], questions: Sequence[str]) -> dict[str, Tensor]:
        """Return the model's input for a batch of questions, each about one or several images."""
        texts = [self.chat(question, len(of_question)) for of_question, question in zip(images, questions, strict=True)]
        inputs = self.both(text=texts, images=[list(one) for one in images], padding=True, return_tensors="pt").to(self.device)
        return {key: value.to(self.precision) if value.is_floating_point() else value for key, value in inputs.items()}

    def chat(self, question: str, images: int) -> str:
        content = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": question}]
        # the tokenizer's templates ignore unknown arguments, the processor's do not
        return self.both.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            chat_template=getattr(self.both, "chat_template", None),
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )

    def token_ids(self, answers: Sequence[str]) -> list[int]:
        """Return the tokens that are one of these answers as a whole."""
        ids = [self.both.tokenizer.encode(answer, add_special_tokens=False) for answer in answers]
        if whole := sorted({tokens[0] for tokens in ids if len(tokens) == 1}):
            return whole
        raise ValueError(f"The tokenizer in {self.folder} splits all of {answers}, so it gives no probability of an answer.")


class VlmScorer(NetworkScorer):
    """Asks a model questions about images and reads the probability of the right answers from its first token.

    Args:
        path: Folder or hub id of the model.
        batch_size: Images, and questions, at a time.
        precision: Precision of weights and computation. Such models are published in bfloat16.
        device: ``auto`` takes a GPU where there is one.
    """

    def __init__(self, path: str, batch_size: int = 8, precision: Precision = "bfloat16", device: str = "auto") -> None:
        self.vlm = VisionLanguageModel(path, precision, device)
        super().__init__([self.vlm], batch_size)

    def probabilities(self, asked: Sequence[tuple[Image.Image, str, Sequence[str]]]) -> list[float]:
        """Return the probability that one of the answers follows each question about its image."""
        found: list[float] = []
        for first in range(0, len(asked), self.batch_size):
            images, questions, answers = zip(*asked[first : first + self.batch_size], strict=True)
            rows = self.vlm.answers(images, questions)
            found += [float(row[self.vlm.token_ids(forms)].sum()) for row, forms in zip(rows, answers, strict=True)]
        return [min(probability, 1.0) for probability in found]

    def likeliest(
        self, asked: Sequence[tuple[Image.Image, str]], forms: Mapping[str, Sequence[str]], otherwise: str
    ) -> list[str]:
        """Return the answer to each question by the likeliest first token: one of ``forms``, or ``otherwise``.

        Args:
            asked: Images and questions.
            forms: {answer: ways to write it}.
            otherwise: Stands for a token that is none of them.
        """
        answers = {token: answer for answer, ways in forms.items() for token in self.vlm.token_ids(ways)}
        found: list[str] = []
        for first in range(0, len(asked), self.batch_size):
            images, questions = zip(*asked[first : first + self.batch_size], strict=True)
            found += [answers.get(int(token), otherwise) for token in self.vlm.answers(images, questions).argmax(1)]
        return found


class VqaScorer(VlmScorer):
    """VQAScore (Lin et al., ECCV 2024): the probability of "Yes" to one question about the whole prompt.

    Args:
        path: Folder or hub id of the model.
        question: The question, with {} for the prompt. Scores of different questions or models are not comparable.
        **options: Those of VlmScorer.
    """

    def __init__(
        self, path: str, question: str = 'Does this figure show "{}"? Please answer Yes or No.', **options: Any
    ) -> None:
        if "{}" not in question:
            raise ValueError(f"The question {question!r} has no place for the prompt: write {{}} there.")
        super().__init__(path, **options)
        self.question = question

    @property
    def name(self) -> str:
        return f"vqa_score[{self.vlm.name}]"

    @property
    def version(self) -> str:
        return f"{super().version}, {self.question}"

    def require_ready(self) -> None:
        super().require_ready()
        self.vlm.token_ids(("Yes",))

    def score_batch(self, images: list[Image.Image], prompts: list[Prompt]) -> list[Score]:
        questions = [self.question.replace("{}", prompt.text) for prompt in prompts]
        yes = self.probabilities([(image, asked, ("Yes",)) for image, asked in zip(images, questions, strict=True)])
        return [Score(p, {"question": asked, "yes": p}) for p, asked in zip(yes, questions, strict=True)]


class AtomScorer(VlmScorer):
    """Soft-TIFA's score over our questions about objects, attributes, relations and counts.

    Args:
        path: Folder or hub id of the model.
        mean: ``geometric`` (one wrong answer spoils the prompt) or ``arithmetic`` (the fraction of right answers). The
            evidence holds both.
        **options: Those of VlmScorer.
    """

    def __init__(self, path: str, mean: Literal["geometric", "arithmetic"] = "geometric", **options: Any) -> None:
        one_of("mean", mean, ("geometric", "arithmetic"))
        super().__init__(path, **options)
        self.mean = mean

    @property
    def name(self) -> str:
        return f"atoms_{self.mean}[{self.vlm.name}]"

    @property
    def version(self) -> str:
        return f"{super().version}, questions {VERSION}"

    def missing(self, prompt: Prompt) -> str | None:
        return None if atom_questions(prompt) else "noun phrases, relation or counted objects"

    def require_prompts(self, prompts: Sequence[Prompt], seed: int) -> None:
        for answers in dict.fromkeys(_forms(atom) for prompt in prompts for atom in atom_questions(prompt)):
            self.vlm.token_ids(answers)

    def score_batch(self, images: list[Image.Image], prompts: list[Prompt]) -> list[Score]:
        atoms = [atom_questions(prompt) for prompt in prompts]
        asked = [
            (image, atom.question, _forms(atom)) for image, of_image in zip(images, atoms, strict=True) for atom in of_image
        ]
        probabilities = iter(self.probabilities(asked))
        scores = []
        for of_image in atoms:
            right = [next(probabilities) for _ in of_image]
            evidence = [
                {"kind": atom.kind, "question": atom.question, "answer": atom.answers[0], "probability": round(p, 6)}
                for atom, p in zip(of_image, right, strict=True)
            ]
            means = {"geometric": geometric_mean(right), "arithmetic": arithmetic_mean(right)}
            scores.append(Score(means[self.mean], {"atoms": evidence, **means}))
        return scores


def _forms(atom: Atom) -> tuple[str, ...]:
    """Return the right answers as a model may write them: some tokenizers begin a word with a space."""
    return *atom.answers, *(f" {answer}" for answer in atom.answers)
