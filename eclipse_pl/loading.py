"""A prior, its encoder and its decoder, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eclipse_pl.decoders.decoder import Decoder
from eclipse_pl.decoders.kandinsky import KandinskyDecoder
from eclipse_pl.decoders.unclip import UnclipDecoder
from eclipse_pl.embedding import ClipSpace
from eclipse_pl.encoders.encoder import NO_CAPTIONS, Encoder
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.open_clip_model import LOCAL, local_dir_tag
from eclipse_pl.path_or_class import SETTINGS
from eclipse_pl.priors.lora import LoraPrior
from eclipse_pl.priors.open_saved import open_saved
from eclipse_pl.priors.prior import Prior
from eclipse_pl.priors.saved import SavedPrior
from eclipse_pl.world.decoder import WorldDecoder
from eclipse_pl.world.encoder import FOLDER, WorldEncoder

PUBLISHED = {768: ("ViT-L-14", "openai"), 1280: ("ViT-bigG-14", "laion2b_s39b_b160k")}
"""The CLIPs of all published priors, by width: Karlo's, and Kandinsky 2.2's."""
DECODERS: dict[str, type[WorldDecoder] | type[UnclipDecoder] | type[KandinskyDecoder]] = {
    "world": WorldDecoder,
    "ViT-L-14/openai": UnclipDecoder,
    "ViT-bigG-14/laion2b_s39b_b160k": KandinskyDecoder,
}
"""The class that decodes each space by default."""


def load_prior(source: str, encoder: Encoder | None = None) -> Prior:
    """The prior of a run (weights of ``last.ckpt``), or of a released folder or hub id, in evaluation mode, on the CPU.

    A run's checkpoint holds its space, so its shards need not be at hand. Of a released prior the space is in its folder if
    `export` wrote it; else it is ``encoder``'s, by default the published one of that width. A `LoraPrior` is returned as the
    prior that it adapts, with the changes added.

    Raises:
        ValueError: ``source`` is neither, or ``encoder`` belongs to another space.
    """
    saved = open_saved(source)
    if saved.space is not None and encoder is not None:
        encoder.require_space(saved.space, f"The prior {source}")
    if saved.space is None and encoder is None:
        encoder = published_encoder(saved)
    if saved.space is None and encoder is not None and encoder.dim != saved.dim:
        raise ValueError(
            f"The prior {source} is {saved.dim} wide, and the encoder {encoder.tag} makes embeddings {encoder.dim} wide: take "
            "the CLIP that the prior was trained for."
        )
    made = saved.build(encoder)
    return (made.merged() if isinstance(made, LoraPrior) else made).eval()


def published_encoder(saved: SavedPrior) -> Encoder:
    if saved.dim not in PUBLISHED:
        raise ValueError(
            f"{saved.source} is {saved.dim} wide and names no CLIP; published priors are "
            f"{' or '.join(map(str, PUBLISHED))} wide. Name its CLIP with --encoder."
        )
    return OpenClipEncoder(*PUBLISHED[saved.dim])


def find_encoder(space: ClipSpace, device: str = "auto") -> Encoder:
    """The encoder that ``space.encoder`` names: the world's own, or an open_clip model by its tag.

    Raises:
        ValueError: See `require_encoder`.
    """
    require_encoder(space)
    named = published(space.encoder)
    found = WorldEncoder(device=device) if named is None else OpenClipEncoder(*named, device=device)
    found.require_space(space, "the prior")
    return found


def load_encoder(of: Prior | ClipSpace | str, device: str | None = None) -> Encoder:
    """The CLIP of a prior or a space, or the one of a space's name. ``encoder(["a red circle"])`` encodes captions.

    Args:
        of: A prior, a space, or the name of a space: ``world``, ``MODEL/PRETRAINED`` of open_clip (``ViT-L-14/openai``), or
            ``local-dir:/folder`` of a model of your own.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``. Default: that of the prior; ``auto`` without a prior.

    Raises:
        ValueError: The space does not name a CLIP that can be loaded.
    """
    if isinstance(of, str):
        if of == "world":
            return WorldEncoder(device=device or "auto")
        model, _, pretrained = (of, "", "") if of.startswith(LOCAL) else of.partition("/")
        return OpenClipEncoder(model, pretrained or None, device=device or "auto")
    if isinstance(of, ClipSpace):
        return find_encoder(of, device or "auto")
    return find_encoder(of.space, device or device_of(of))


def require_encoder(space: ClipSpace) -> None:
    """Raise ValueError where the tag names a local checkpoint, because its folder is unknown. Nothing is loaded."""
    space.require_captions("An encoder", NO_CAPTIONS)
    if is_local_clip(space.encoder):
        raise ValueError(
            f"--encoder is needed: the CLIP of {space} is a local one, and its folder is unknown. (In a config: "
            "samples.encoder and benchmark.encoder.)"
        )


def is_local_clip(tag: str) -> bool:
    """Whether an encoder's tag names a CLIP whose files are on its owner's machine alone."""
    return tag != local_dir_tag(FOLDER) and published(tag) is None


def published(tag: str) -> tuple[str, str] | None:
    """Model and pretrained tag of open_clip, of an encoder's tag; None where it names something else."""
    library, _, name = tag.partition(":")
    model, _, pretrained = name.partition(":")
    known = library == "open_clip" and pretrained and "sha256-" not in pretrained and model != "local-dir"
    return (model, pretrained) if known else None


def load_decoder(of: Prior | ClipSpace | str, device: str | None = None, **options: Any) -> Decoder:
    """The decoder of a prior's space: the package's own for the world, Karlo for ViT-L/14, Kandinsky 2.2 for ViT-bigG/14.

    Its weights are read when it first decodes. `load_part` loads any other decoder.

    Args:
        of: A prior, a space, or the name of a space (``world``, ``ViT-L-14/openai``).
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``. Default: that of the prior; ``auto`` without a prior.
        **options: Those of the decoder's class, such as ``steps`` and ``guidance``.

    Raises:
        ValueError: No decoder is known for the space, or the prior's embeddings do not fit it.
    """
    space = of.space if isinstance(of, Prior) else of
    names = [space] if isinstance(space, str) else [space.name, space.encoder]
    kind = next((DECODERS[name] for name in names if name in DECODERS), None)
    if isinstance(space, str) and Path(space).suffix in SETTINGS:
        raise ValueError(f'{space} is a file, and no space: load_part("{space}") loads the decoder that it describes.')
    if kind is None:
        raise ValueError(
            f"No decoder is known for the space {space}; known are {', '.join(DECODERS)}. Load a part of "
            'experiments/parts/decoder, or your own: load_part("decoder.yaml").'
        )
    if device is None:
        device = device_of(of) if isinstance(of, Prior) else "auto"
    decoder = kind(device=device, **options)
    if isinstance(space, ClipSpace):
        decoder.require_space(space, "the prior" if isinstance(of, Prior) else "the space")
    return decoder


def device_of(prior: Prior) -> str:
    """The device of a prior's weights; ``auto`` where it has none."""
    return str(next((one.device for one in prior.state_dict().values()), "auto"))
