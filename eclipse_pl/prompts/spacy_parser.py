"""spaCy as a parser. T2I-CompBench's scorers use it too (spaCy 3.5.3 with en_core_web_sm 3.5.0)."""

from __future__ import annotations

from pathlib import Path

from eclipse_pl.prompts.parser import DROPPED_PHRASES, Parse, Parser, Word

REMEDY = (
    "run `pip install 'eclipse_pl[spacy]'` and `python -m spacy download en_core_web_sm`, or set `parser` to "
    "eclipse_pl.prompts.parser.NoParser if no scorer asks for noun phrases."
)


class SpacyParser(Parser):
    """Parses with an installed spaCy pipeline. It downloads nothing.

    Args:
        model: Name of an installed pipeline package (``en_core_web_sm``), or the folder of a pipeline.

    Raises:
        ValueError: spaCy or the pipeline is not installed, or the pipeline cannot be loaded.
    """

    def __init__(self, model: str = "en_core_web_sm") -> None:
        try:
            import spacy
        except ImportError as error:
            raise ValueError(f"spaCy is not installed ({error}); {REMEDY}") from error
        if not (Path(model) / "meta.json").is_file() and not spacy.util.is_package(model):
            raise ValueError(
                f"there is no spaCy pipeline {model!r}, neither a folder with meta.json nor an installed package; {REMEDY}"
            )
        try:
            self._pipeline = spacy.load(model)
        except (ValueError, OSError, KeyError) as error:  # a damaged folder, or an unregistered component
            raise ValueError(f"The spaCy pipeline {model!r} cannot be loaded ({error}).") from error
        meta = self._pipeline.meta
        self._version = f"spacy-{spacy.__version__}/{meta['lang']}_{meta['name']}-{meta['version']}"

    @property
    def version(self) -> str:
        return self._version

    def parse(self, text: str) -> Parse:
        """Return the words and the noun phrases of ``text``.

        Raises:
            ValueError: The pipeline finds no parts of speech, or no dependencies, from which noun phrases are made.
        """
        document = self._pipeline(text)
        for annotation in ("POS", "DEP"):
            if len(document) and not document.has_annotation(annotation):
                raise ValueError(
                    f"The spaCy pipeline {self._version} does not annotate {annotation}; its components are "
                    f"{', '.join(self._pipeline.pipe_names) or 'none'}. Use one with a tagger and a parser (en_core_web_sm)."
                )
        words = tuple(Word(token.text, token.pos_) for token in document if not token.is_space)
        chunks = (chunk.text for chunk in document.noun_chunks)
        return Parse(words, tuple(chunk for chunk in chunks if chunk not in DROPPED_PHRASES))
