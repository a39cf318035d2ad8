from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from eclipse_pl.prompts.prompt import PromptSet
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
        self.folder = Path(folder)

    def load(self, prompts: PromptSet) -> Mapping[str, Path | Image.Image]:
        found = {str(path.relative_to(self.folder)): path for path in self.folder.rglob("*") if path.suffix.lower() in ENDINGS}
        if not found:
            raise ValueError(f"{self.folder} holds no images ({', '.join(ENDINGS)}) to compare with. Choose another folder.")
        return found


class SceneImages(ReferenceImages):
    """The world's true images of the prompts.

    Args:
        prompt_seed: Seed of the prompts (`WorldPrompts`).
    """

    def __init__(self, prompt_seed: int = 0) -> None:
        self.prompt_seed = prompt_seed

    def load(self, prompts: PromptSet) -> Mapping[str, Path | Image.Image]:
        return {prompt.id: render(scene_of(prompt, self.prompt_seed)) for prompt in prompts}
