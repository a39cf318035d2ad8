"""python -m eclipse_pl export: a trained prior as a folder that diffusers' pipelines load."""

from __future__ import annotations

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eclipse_pl.command_line import call
from eclipse_pl.encoders.clip_text import text_model_of, tokenizer_of
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.files import copy_folder, require_outside, write_json
from eclipse_pl.loading import find_encoder, load_prior
from eclipse_pl.model_folder import find_model_folder, read_config
from eclipse_pl.priors.checkpoint import SavedRun, find_checkpoint
from eclipse_pl.priors.diffusion import DiffusionPrior
from eclipse_pl.priors.direct import DirectPrior
from eclipse_pl.priors.flow import FlowPrior
from eclipse_pl.priors.lora import LoraPrior
from eclipse_pl.priors.prior import Prior
from eclipse_pl.priors.write_released import scheduler_config, write_released

ELSEWHERE = ("diffusers", "transformers")
"""Libraries of a pipeline's parts that are no modules of one pipeline."""
TEXT_PARTS = ("text_encoder", "tokenizer")
PRIOR_PARTS = ("prior", "prior_scheduler", "scheduler")
"""The files that are written new; the others are those of a diffusion prior's base."""


def export(prior: str, out: str, base: str | None = None, encoder: Encoder | None = None, lora: bool = False) -> None:
    """Write a prior for diffusers.

    An ECLIPSE prior becomes a pipeline with its text encoder: ``EclipsePriorPipeline.from_pretrained(OUT)``, whose output
    KandinskyV22Pipeline takes. A diffusion prior becomes diffusers' PriorTransformer and its scheduler; with ``base``, a whole
    KandinskyV22PriorPipeline or UnCLIPPipeline in which they stand in for the published ones. These pipelines can sample a
    flow prior with the prediction x0 and the schedule cosine; any other flow prior becomes a PriorTransformer alone. A
    LoraPrior becomes the prior that it adapts, with the changes added.

    Args:
        prior: Folder of a run, or a released prior.
        out: Folder to write; it must not hold anything yet.
        base: Folder or hub id of a pipeline of the same CLIP, whose other parts are taken over.
        encoder: The CLIP of the prior, where its space does not say where that lies and there is no base.
        lora: Write the changes of a LoraPrior alone, for ``load_lora_adapter`` of diffusers' PriorTransformer.
    """
    target = Path(out).expanduser()
    require_empty(target, f"--out {out}")
    if base is not None:
        require_outside(target, Path(base).expanduser())
    if lora and base is not None:
        raise ValueError(f"--lora writes the changes alone, and nothing of --base {base}: leave one of them out.")
    if lora and encoder is not None:
        raise ValueError("--lora writes the changes alone, and reads no --encoder: leave one of them out.")
    made = changed_prior(prior) if lora else load_prior(prior, encoder)
    if not isinstance(made, LoraPrior | DirectPrior | DiffusionPrior | FlowPrior):
        raise ValueError(
            f"{prior} is a {type(made).__name__}; only EclipsePrior, DiffusionPrior and FlowPrior have a place in diffusers."
        )
    if not isinstance(made, LoraPrior):
        require_plain(made, prior)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
        folder = Path(temporary) / target.name
        if isinstance(made, LoraPrior):
            made.write_changes(folder)
        elif isinstance(made, DirectPrior):
            write_eclipse(made, folder, base, encoder)
        else:
            write_diffusion(made, folder, base)
        if target.is_dir():
            target.rmdir()  # an empty one
        folder.rename(target)
    print(f"{target}: {type(made).__name__} of {made.space}")


def changed_prior(prior: str) -> LoraPrior:
    """The run of a LoraPrior, with its changes apart."""
    checkpoint = find_checkpoint(prior)
    made = None if checkpoint is None else SavedRun(checkpoint, prior).build()
    if not isinstance(made, LoraPrior):
        raise ValueError(f"{prior} is no run of a LoraPrior, so it has no changes to write: export it without --lora.")
    return made


def require_empty(target: Path, option: str) -> None:
    """Raise ValueError where a file, a folder that holds something, or the working folder is in the place of the output."""
    if Path.cwd().is_relative_to(target.resolve()):
        raise ValueError(f"{option} is the folder in which this command runs, or holds it. Choose a new folder in it.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{option} holds something already. Choose another folder.")


def write_diffusion(prior: DiffusionPrior | FlowPrior, folder: Path, base: str | None) -> None:
    if base is None:
        write_released(prior, folder / "prior")
        try:
            scheduler = scheduler_config(prior)
        except ValueError as reason:
            print(f"No scheduler was written: {reason}", file=sys.stderr)
        else:
            write_part(folder / "scheduler" / "scheduler_config.json", scheduler)
        return
    try:
        scheduler = scheduler_config(prior)
    except ValueError as reason:
        raise ValueError(f"{reason} Export without --base, or train a prior with them.") from reason
    root = find_base(base)
    index = read_config(root, "model_index.json")
    if "prior" not in index:
        raise ValueError(f"--base {base} is a {index.get('_class_name')}, which has no prior. Take a prior's pipeline.")
    require_same_width(root, prior, base)
    require_parts(root, [part for part, named in index.items() if named_part(named) and part not in PRIOR_PARTS], base)
    copy_folder(root, folder, lambda path: path != root / "prior")
    write_released(prior, folder / "prior")
    name = "prior_scheduler" if "prior_scheduler" in index else "scheduler"
    write_part(folder / name / "scheduler_config.json", scheduler)
    for part in ("prior", name):
        index[part] = ["diffusers", "PriorTransformer" if part == "prior" else "UnCLIPScheduler"]
    write_json(folder / "model_index.json", index)
    if moved := moved_parts(index):
        print(
            f"diffusers {version('diffusers')} has moved the module {index[moved[0]][0]!r} of {moved[0]}/, so it can "
            f"load neither {base} nor this export. An environment with diffusers below 0.38 loads both.",
            file=sys.stderr,
        )


def moved_parts(index: dict[str, Any]) -> list[str]:
    """Parts of a pipeline whose module this version of diffusers no longer has under the name in the index."""
    from diffusers import pipelines

    named = {part: named[0] for part, named in index.items() if named_part(named)}
    return [part for part, library in named.items() if library not in ELSEWHERE and not hasattr(pipelines, library)]


def write_eclipse(prior: DirectPrior, folder: Path, base: str | None, encoder: Encoder | None) -> None:
    write_released(prior, folder / "prior")
    if prior.space.zero_image is not None:
        config = folder / "prior" / "config.json"
        write_json(config, {**json.loads(config.read_text()), "zero_image_embed": prior.space.zero_image.tolist()})
    index: dict[str, Any] = {"_class_name": "EclipsePriorPipeline", "_diffusers_version": version("diffusers")}
    if base is not None:
        root = find_base(base)
        require_same_width(root, prior, base)
        theirs = read_config(root, "model_index.json")
        known = named_part(theirs.get("image_encoder"))
        parts = [*TEXT_PARTS, *(["image_encoder"] if known and prior.space.zero_image is None else [])]
        if lacking := [part for part in parts if not named_part(theirs.get(part))]:
            raise ValueError(
                f"--base {base} is a {theirs.get('_class_name')}, which has no {lacking[0]}: take another pipeline."
            )
        require_parts(root, parts, base)
        for part in parts:
            copy_folder(root / part, folder / part)
            index[part] = theirs[part]
    else:
        encoder = encoder or find_encoder(prior.space, "cpu")
        if not isinstance(encoder, OpenClipEncoder):
            raise ValueError(
                f"{type(encoder).__name__} is no open_clip model, whose text tower could be written. Export with --base."
            )
        text_model_of(encoder).save_pretrained(folder / "text_encoder")
        tokenizer = tokenizer_of(encoder)
        tokenizer.save_pretrained(folder / "tokenizer")
        index["text_encoder"] = ["transformers", "CLIPTextModelWithProjection"]
        known = type(tokenizer).__name__ == "CLIPTokenizer"
        # the name that transformers 4 and 5 share for a tokenizer that is all in its file
        index["tokenizer"] = ["transformers", "CLIPTokenizer" if known else "PreTrainedTokenizerFast"]
    index["prior"] = ["eclipse_pl.pipeline", "EclipsePriorTransformer"]
    index.setdefault("image_encoder", [None, None])
    write_part(folder / "model_index.json", index)


def find_base(base: str) -> Path:
    """The pipeline's folder. Half-precision copies of the weights, which a repository may hold too, stay there."""
    return find_model_folder(base, ignored=("*.fp16.*", "*.non_ema.*"))


def named_part(named: object) -> bool:
    """Whether an entry of ``model_index.json`` names a part of the pipeline, and not something else or nothing."""
    return isinstance(named, list) and len(named) == 2 and all(isinstance(word, str) for word in named)


def require_parts(root: Path, parts: list[str], base: str) -> None:
    """Raise ValueError for a part that would be missing in the export, or would lack its weights."""
    for part in parts:
        files = [path.suffix for path in (root / part).glob("*")]
        if not files:
            raise ValueError(f"--base {base} has no {part}/, which its model_index.json names. Take the whole pipeline.")
        # Pickles of the hub are never fetched; those in a folder of the user's are copied as they are.
        fetched = not Path(base).expanduser().is_dir()
        if fetched and (root / part / "config.json").is_file() and ".safetensors" not in files:
            raise ValueError(
                f"--base {base} has no safetensors of {part}/, and pickles are not fetched from the hub. Save the pipeline "
                "once with diffusers' save_pretrained, and pass that folder."
            )


def require_plain(prior: DirectPrior | DiffusionPrior | FlowPrior, name: str) -> None:
    """Raise ValueError for a subclass that samples in its own way, which a folder could not say."""
    plain = next(kind for kind in (DirectPrior, DiffusionPrior, FlowPrior) if isinstance(prior, kind))
    for method in ("sample", "guided", "_predict", "_noise"):
        if getattr(type(prior), method, None) is not getattr(plain, method, None):
            raise ValueError(
                f"{name} is a {type(prior).__name__}, whose {method} is not that of {plain.__name__}: diffusers would sample "
                "another prior than this one. Only priors that sample as those of this project do can be exported."
            )


def require_same_width(root: Path, prior: Prior, base: str) -> None:
    """The only fact about its CLIP in a published pipeline."""
    width = read_config(root / "text_encoder").get("projection_dim")
    if width != prior.space.dim:
        raise ValueError(
            f"--base {base} reads captions {width} wide, and the prior belongs to {prior.space}. Take a pipeline of that CLIP."
        )


def write_part(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)


def main(args: list[str] | None = None) -> None:
    call(export, args, "eclipse_pl export")
