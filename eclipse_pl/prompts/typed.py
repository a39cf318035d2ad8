"""Prompts on the command line: the text after an option is one prompt and is not read as YAML."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence

from eclipse_pl.prompts.prompt_lines import prompt_problem


def with_typed_prompts(words: Sequence[str], option: str) -> list[str]:
    """Return a command line with all prompts of ``option`` in one list, in a form that the argument parser keeps as it is.

    ``--prompt TEXT`` is one prompt, and so is ``--prompt=TEXT`` for a text that looks like an option. Repeated options, or
    ``--prompt+``, are several prompts. A text that is a JSON list of strings is a list of prompts.

    Args:
        words: The words of the command line.
        option: The option that has prompts, such as ``--prompt``.

    Raises:
        ValueError: The option has no text, or several words without quotes, or a text that cannot be a prompt.
    """
    rest: list[str] = []
    prompts: list[str] = []
    place, replaces, position = 0, False, 0
    while position < len(words):
        word = words[position]
        name, equals, text = word.partition("=")
        position += 1
        if name not in (option, f"{option}+"):
            rest.append(word)
            continue
        if not equals:
            if position == len(words) or _is_option(words[position]):
                after = f" before {words[position]}" if position < len(words) else ""
                raise ValueError(f"{option} has no prompt{after}. Write a prompt that looks like an option as {option}=TEXT.")
            text = words[position]
            position += 1
        if position < len(words) and not _is_option(words[position]):
            raise ValueError(
                f"{option} {text} is followed by {words[position]!r}. Put a prompt of several words in quotes; for several "
                f'prompts repeat the option: {option} "a red star" {option} "two blue squares".'
            )
        place = place if prompts else len(rest)
        prompts += _prompts(text, option)
        replaces |= name == option
    if prompts:
        prompts = prompts_of(prompts, option)
        rest.insert(place, f"{option}{'' if replaces else '+'}={_in_yaml(prompts)}")
    return rest


def prompts_of(given: str | Sequence[str], option: str) -> list[str]:
    """The prompts of an option: a string is one prompt, a list is several.

    Raises:
        ValueError: There is no prompt, or a file, tokenizer or scorer cannot take one.
    """
    prompts = [given] if isinstance(given, str) else list(given)
    if not prompts:
        raise ValueError(f"{option} is empty: give a prompt, or a list of prompts.")
    for prompt in prompts:
        if problem := prompt_problem(prompt):
            raise ValueError(f"{option} {prompt!a} {problem}.")
    return prompts


def _is_option(word: str) -> bool:
    return re.fullmatch(r"--[\w.+-]+(=.*)?|-[A-Za-z]", word, re.DOTALL) is not None


def _prompts(text: str, option: str) -> list[str]:
    """Return the strings of a list in JSON or Python (sweeps write Python), or else the text: ``[deep focus] a fox``."""
    listed = text.strip()
    try:
        found = json.loads(listed) if listed.startswith("[") else None
    except (ValueError, RecursionError) as error:
        if not re.fullmatch(r"""\[\s*["'].*["']\s*\]""", listed, re.DOTALL):
            return [text]
        try:
            found = ast.literal_eval(listed)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise ValueError(
                f'{option} {text} looks like a list, but is not JSON ({error}). Write {option} \'["a red star", "a cat"]\'.'
            ) from error
    if not isinstance(found, list) or (found and not any(isinstance(one, str | list | dict) for one in found)):
        return [text]
    if not found or not all(isinstance(one, str) for one in found):
        raise ValueError(f"{option} {text} is a list, but not of prompts: it must have one or more strings.")
    return list(found)


def _in_yaml(prompts: Sequence[str]) -> str:
    """Return a list in a form that YAML reads unchanged: YAML folds some characters and refuses others."""
    return "[" + ", ".join(f'"{"".join(map(_escaped, prompt))}"' for prompt in prompts) + "]"


def _escaped(letter: str) -> str:
    plain = letter.isascii() and letter.isprintable() and letter not in '"\\'
    return letter if plain else f"\\U{ord(letter):08X}"
