"""Images that generated images are compared with: of a folder, of each prompt, of the world."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from PIL import Image

from eclipse_pl.prompts.prompt import Prompt, PromptSet
from eclipse_pl.scorers.features import images_hash
from eclipse_pl.world.drawing import render
from eclipse_pl.world.prompts import scene_of

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


class ReferenceImages(ABC):
    """Images that generated images are compared with."""

    @abstractmethod
    def load(self, prompts: PromptSet) -> Mapping[str, Path | Image.Image]:
        """Return images by name."""


class ImageFolder(ReferenceImages):
    """All images of a folder, such as the 30,000 of MSCOCO in published FIDs.

    Args:
        folder: Folder with the images, and its subfolders.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder).expanduser()

    def load(self, prompts: PromptSet) -> Mapping[str, Path | Image.Image]:
        return images_in(self.folder)


class PromptImages(ReferenceImages):
    """Images of which each belongs to a prompt."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """What tells these images from others."""

    @abstractmethod
    def images_of(self, prompt: Prompt) -> Mapping[str, Path | Image.Image]:
        """Return at least one image of the prompt by name.

        Raises:
            ValueError: There is none.
        """

    def load(self, prompts: PromptSet) -> Mapping[str, Path | Image.Image]:
        return {name: image for prompt in prompts for name, image in self.images_of(prompt).items()}


class ImagesOfPrompts(PromptImages):
    """One or several images for each prompt in a folder, by the prompts' ids.

    The image of prompt ``color/0007`` is ``color/0007.jpg`` (or ``.png``, ``.jpeg``, ``.webp``), and several images lie in the
    folder ``color/0007``. The ids are those in ``rows.jsonl``.

    Args:
        folder: Folder with the images.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder).expanduser()

    @cached_property
    def identity(self) -> str:
        return images_hash(images_in(self.folder))

    @cached_property
    def _by_prompt(self) -> dict[str, dict[str, Path]]:
        found: dict[str, dict[str, Path]] = {}
        for name, path in sorted(images_in(self.folder).items()):
            place = Path(name)
            for prompt in (place.with_suffix("").as_posix(), place.parent.as_posix()):
                found.setdefault(prompt, {})[name] = path
        return found

    def images_of(self, prompt: Prompt) -> Mapping[str, Path | Image.Image]:
        if prompt.id not in self._by_prompt:
            raise ValueError(
                f"{self.folder} holds no reference image of prompt {prompt.id} ({prompt.text!r}): name it {prompt.id}.jpg, or "
                f"put several into a folder {prompt.id}."
            )
        return self._by_prompt[prompt.id]


class SceneImages(PromptImages):
    """The world's true images of the prompts.

    Args:
        prompt_seed: Seed of the prompts (`WorldPrompts`).
    """

    def __init__(self, prompt_seed: int = 0) -> None:
        self.prompt_seed = prompt_seed

    @property
    def identity(self) -> str:
        return f"world, prompt_seed {self.prompt_seed}"

    def images_of(self, prompt: Prompt) -> Mapping[str, Path | Image.Image]:
        return {prompt.id: render(scene_of(prompt, self.prompt_seed))}


def images_in(folder: Path) -> dict[str, Path]:
    """Return all images of a folder and its subfolders by their relative paths.

    Raises:
        ValueError: There are none.
    """
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS}
    if not found:
        raise ValueError(f"{folder} holds no images ({', '.join(ENDINGS)}) to compare with. Choose another folder.")
    return found
