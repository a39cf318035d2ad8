from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from eclipse_pl.decoders.decoder import Decoder
from eclipse_pl.device import pick_device, precision_name
from eclipse_pl.embedding import ClipSpace, TextCondition
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.loading import find_encoder, load_prior, require_encoder
from eclipse_pl.priors.checkpoint import find_checkpoint, read_checkpoint, training_data_of
from eclipse_pl.priors.prior import Prior, TrainingData, weights_sha256
from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.text_to_image.text_to_image import TextToImage


class PriorAndDecoder(TextToImage):
    """Caption -> prior -> image embedding -> decoder -> image.

    Args:
        prior: Folder of a run (baselines too), or a released prior (folder or hub id).
        decoder: Decoder of the prior's space.
        encoder: CLIP of that space. By default the space's name finds it.
        device: Device of the prior. ``auto`` takes a GPU where there is one.
    """

    def __init__(self, prior: str, decoder: Decoder, encoder: Encoder | None = None, device: str = "auto") -> None:
        self._device = pick_device(device)
        loaded = load_prior(prior, encoder)
        checkpoint = find_checkpoint(prior)  # a released prior states neither its training data nor its steps
        content = {} if checkpoint is None else read_checkpoint(checkpoint)
        self.trained_steps = content.get("global_step")
        source = {"prior": prior, "training_data": training_data_of(content)}
        self._of(loaded.to(self._device), source, decoder, encoder)

    @classmethod
    def of(
        cls,
        prior: Prior,
        name: str,
        decoder: Decoder,
        encoder: Encoder | None = None,
        training_data: TrainingData | None = None,
    ) -> PriorAndDecoder:
        """Use a prior in training, on its device. ``name`` becomes part of the identity."""
        text_to_image = cls.__new__(cls)
        text_to_image._of(prior, {"prior": name, "training_data": training_data or []}, decoder, encoder)
        return text_to_image

    def rename(self, name: str) -> None:
        """Change the name in the identity, because every training step changes the prior. Encoded captions are kept."""
        self._source["prior"] = name

    def _of(self, prior: Prior, source: dict[str, Any], decoder: Decoder, encoder: Encoder | None) -> None:
        self.prior, self.decoder, self._encoder = prior, decoder, encoder
        self._source = source
        self._texts: dict[str, TextCondition] = {}
        self._cut: dict[str, bool] = {}

    @property
    def identity(self) -> dict[str, Any]:
        precision = Encoder.precision if self._encoder is None else self._encoder.precision  # `find_encoder` changes none
        return {
            **self._source,
            "weights": weights_sha256(self.prior),  # training changes the prior under the same name
            "class": f"{type(self.prior).__module__}.{type(self.prior).__qualname__}",
            "prior_options": self.prior.options,
            "space": self.prior.space.identity,
            "encoder_precision": precision_name(precision),
            "decoder": self.decoder.identity,
        }

    def require_ready(self) -> None:
        require_parts(self.prior.space, self.decoder, self._encoder)

    @torch.no_grad()
    def predict(self, texts: Sequence[str], seeds: Sequence[int]) -> torch.Tensor:
        """Return the prior's image embedding of each text, (texts, dim), on the CPU."""
        self.encode(texts)
        text = TextCondition.join([self._texts[one] for one in texts])
        device = next((tensor.device for tensor in self.prior.state_dict().values()), torch.device("cpu"))
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        with torch.autocast(device.type, enabled=False):
            return self.prior.sample(text.to(device), generators).float().cpu()

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image.Image]:
        texts = [prompt.text for prompt in prompts]
        return self.decoder.decode(self.predict(texts, seeds), texts, list(seeds))

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        self.encode([prompt.text for prompt in prompts])

    def encode(self, texts: Sequence[str]) -> None:
        """Encode captions now and free the encoder, so that encoder and decoder do not share the memory.

        Captions are encoded one at a time: in a batch, a caption's last digits would depend on the other captions.
        """
        fresh = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if fresh:
            encoder = self._encoder or find_encoder(self.prior.space)
            for text in fresh:
                tokens = encoder.tokenize([text])
                self._texts[text] = encoder.encode_tokens(tokens).to("cpu")
                self._cut[text] = bool(tokens.cut[0])

    def count_cut(self, prompts: Sequence[Prompt]) -> int:
        """Count captions that the encoder cut. Those of other processes, or of an earlier one, are tokenized here."""
        texts = [prompt.text for prompt in prompts]
        if others := [text for text in dict.fromkeys(texts) if text not in self._cut]:
            encoder = self._encoder or find_encoder(self.prior.space)
            self._cut |= dict(zip(others, encoder.tokenize(others).cut.tolist(), strict=True))
        return sum(self._cut[text] for text in texts)

    def close(self) -> None:
        self.decoder.close()


def require_parts(space: ClipSpace, decoder: Decoder, encoder: Encoder | None) -> None:
    """Raise ValueError unless decoder and encoder belong to the prior's space. By default the space names the encoder."""
    decoder.require_space(space, "the prior")
    if encoder is None:
        require_encoder(space)
    else:
        encoder.require_space(space, "the prior")
