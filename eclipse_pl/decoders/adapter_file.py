"""AdapterFile: the weights of an image-prompt adapter (IP-Adapter, Ye et al. 2023), in one safetensors file."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from eclipse_pl.decoders.pipeline_folder import is_on_hub
from eclipse_pl.model_folder import find_model_folder, sha256_of

PREFIXES = ("image_proj.", "ip_adapter_proj_model.")
"""Beginnings of the names of the projection's weights, by the authors of IP-Adapter and by XLabs."""
OTHER_FEATURES = {
    "latents": ("a plus adapter", "the features of all patches of an image"),
    "proj.3.weight": ("a full-face adapter", "the features of all patches of an image"),
    "perceiver_resampler.proj_in.weight": ("a FaceID plus adapter", "a face recogniser's features"),
    "proj.0.weight": ("a FaceID adapter", "a face recogniser's features"),
}
"""Weight that tells a kind of adapter -> the kind, and what it reads."""


class AdapterFile:
    """An adapter that reads one CLIP image embedding: the raw one, pooled and projected, as priors predict it.

    Args:
        source: Hub id or local folder.
        file: The file's path in it, a safetensors file.

    Raises:
        ValueError: The file is no safetensors file. The properties raise it for a file that is missing or that is no such
            adapter.
    """

    def __init__(self, source: str, file: str) -> None:
        if not file.endswith(".safetensors"):
            raise ValueError(
                f"The adapter {file} is no safetensors file, and a pickle can run code when it is read. h94/IP-Adapter has "
                f"all of its files as safetensors too: name {Path(file).with_suffix('.safetensors')}."
            )
        self.source, self.file = source, file

    @property
    def is_local(self) -> bool:
        return not is_on_hub(self.source)

    @cached_property
    def path(self) -> Path:
        """The local file. A file of the hub is downloaded."""
        folder = find_model_folder(self.source, [self.file])
        if not (folder / self.file).is_file():
            there = sorted(str(one.relative_to(folder)) for one in folder.rglob("*.safetensors"))
            hint = f" It has {', '.join(there[:6])}." if there else ""
            raise ValueError(f"{self.source} has no file {self.file}.{hint} Name a safetensors file of an adapter.")
        return folder / self.file

    @property
    def sha256(self) -> str:
        return sha256_of(self.path)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor, by name."""
        return shapes_of(self.path)

    @property
    def projection(self) -> tuple[int, int]:
        """Shape of the projection: widths of all its tokens together, and of the embedding that it reads."""
        found = {
            name.removeprefix(start): shape
            for start in PREFIXES
            for name, shape in self.shapes.items()
            if name.startswith(start)
        }
        for name, (kind, features) in OTHER_FEATURES.items():
            if name in found:
                raise ValueError(
                    f"{self.file} of {self.source} is {kind}: it reads {features}, and a prior predicts one embedding. Take a "
                    "plain adapter, such as sdxl_models/ip-adapter_sdxl.safetensors of h94/IP-Adapter."
                )
        shape = found.get("proj.weight", ())
        if len(shape) != 2:
            raise ValueError(
                f"{self.path} holds no image-prompt adapter: it has no image_proj.proj.weight. Take a file such as "
                "sdxl_models/ip-adapter_sdxl.safetensors of h94/IP-Adapter."
            )
        return shape[0], shape[1]

    @property
    def dim(self) -> int:
        """E, width of the embeddings that it reads."""
        return self.projection[1]

    @property
    def keys_width(self) -> tuple[int, int]:
        """Number of the attention layers that it adds keys to, and width of the tokens that these read."""
        found = [shape for name, shape in self.shapes.items() if name.endswith(("to_k_ip.weight", "stream_k_proj.weight"))]
        return len(found), found[0][1] if found else 0


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a safetensors file. The tensors are not read.

    Raises:
        ValueError: The file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}). Fetch it again.") from error


def require_scale(scale: float) -> None:
    """Raise ValueError for a weight of the image prompt that no adapter can use."""
    if not 0 < scale <= 2:
        raise ValueError(f"scale {scale} is no weight of an image prompt: take a number above 0, and at most 2.")
