"""Words and noun phrases by spaCy, as upstream's scorers find them (with spaCy 3.5.3 and en_core_web_sm 3.5.0)."""

from __future__ import annotations

from pathlib import Path

from eclipse_pl.prompts.parser import DROPPED_PHRASES, Parser, Reading, Word


class SpacyParser(Parser):
    """Reads with a spaCy pipeline that is there already; nothing is downloaded.

    Args:
        model: name of an installed pipeline package (``en_core_web_sm``), or the folder of a pipeline.

    ValueError where spaCy or the pipeline is missing, or where the pipeline does not find what is asked of it: parts of
    speech, and the dependencies that noun phrases are made of.
    """

    def __init__(self, model: str = "en_core_web_sm") -> None:
        try:
            import spacy
        except ImportError as error:
            raise ValueError(
                f"spaCy is not installed ({error}). `pip install eclipse_pl[spacy]` installs it; without a parser named, "
                "prompts are read by eclipse_pl's own grammar."
            ) from error
        if not (Path(model) / "meta.json").is_file() and not spacy.util.is_package(model):
            raise ValueError(
                f"There is no spaCy pipeline {model!r}: neither a folder with meta.json nor an installed package. "
                "`python -m spacy download en_core_web_sm` installs one where the network allows it."
            )
        try:
            self._pipeline = spacy.load(model)
        except (ValueError, OSError, KeyError) as error:  # spaCy's words for a damaged folder or a part that nobody registered
            raise ValueError(f"The spaCy pipeline {model!r} cannot be loaded ({error}).") from error
        meta = self._pipeline.meta
        self._version = f"spacy-{spacy.__version__}/{meta['lang']}_{meta['name']}-{meta['version']}"

    @property
    def version(self) -> str:
        return self._version

    def read(self, text: str) -> Reading:
        document = self._pipeline(text)
        for annotation in ("POS", "DEP"):
            if len(document) and not document.has_annotation(annotation):
                raise ValueError(
                    f"The spaCy pipeline {self._version} says nothing of {annotation}; its parts are "
                    f"{', '.join(self._pipeline.pipe_names) or 'none'}. Take one with tagger and parser (en_core_web_sm)."
                )
        words = tuple(Word(token.text, token.pos_) for token in document if not token.is_space)
        chunks = (chunk.text for chunk in document.noun_chunks)
        return Reading(words, tuple(chunk for chunk in chunks if chunk not in DROPPED_PHRASES))
