from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from eclipse_pl.prompts.prompt import PromptSet
from eclipse_pl.world.picture import picture
from eclipse_pl.world.prompts import scene_of

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


class ReferencePictures(ABC):
    """What painted pictures as a whole should look like."""

    @abstractmethod
    def load(self, prompts: PromptSet) -> Mapping[str, Path | Image.Image]:
        """Pictures by name."""


class PictureFolder(ReferencePictures):
    """All pictures of a folder, such as the 30,000 of MSCOCO that a FID is stated for.

    Args:
        folder: with the pictures, at whatever depth.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def load(self, prompts: PromptSet) -> Mapping[str, Path | Image.Image]:
        found = {str(path.relative_to(self.folder)): path for path in self.folder.rglob("*") if path.suffix.lower() in ENDINGS}
        if not found:
            raise ValueError(f"{self.folder} holds no pictures ({', '.join(ENDINGS)}) to compare with.")
        return found


class ScenePictures(ReferencePictures):
    """The world's true pictures of the prompts.

    Args:
        prompt_seed: that of the prompts (`WorldPrompts`).
    """

    def __init__(self, prompt_seed: int = 0) -> None:
        self.prompt_seed = prompt_seed

    def load(self, prompts: PromptSet) -> Mapping[str, Path | Image.Image]:
        return {prompt.id: picture(scene_of(prompt, self.prompt_seed)) for prompt in prompts}
