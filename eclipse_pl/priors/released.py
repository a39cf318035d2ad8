"""ReleasedPrior: a folder in the format of diffusers' ``PriorTransformer``, of ECLIPSE's authors, or of `export`.

It holds config.json and diffusion_pytorch_model.safetensors; a whole pipeline also holds the scheduler's config. ECLIPSE's
folders name the same class but have no time token (``additional_embeddings`` 3), so diffusers cannot run them. They predict
raw embeddings, and no code reads their ``clip_mean`` and ``clip_std``, which are zeros (eclipse-inference).
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eclipse_pl.embedding import ClipSpace
from eclipse_pl.model_folder import find_model_folder, find_weights, read_config
from eclipse_pl.priors.prior import Prior
from eclipse_pl.priors.saved import SavedPrior, require_numbers, require_same_rule, require_same_weights

WEIGHTS = "diffusion_pytorch_model.safetensors"
SPACE = "space.safetensors"
"""The CLIP space of an exported prior, in the folder of its weights. Only this project reads it."""
RULE = "prior.json"
"""Arguments of an exported DiffusionPrior or FlowPrior, in the folder of its weights. Only this project reads it. It lacks the
sizes, which are in config.json, and ``standardise``, which follows from the weights."""
RULE_TYPES: dict[str, tuple[type, ...]] = {
    "prediction": (str,),
    "schedule": (str,),
    "num_train_timesteps": (int,),
    "condition_dropout": (float, int),
    "steps": (int,),
    "guidance_scale": (float, int),
    "clamp": (float, int, type(None)),
}
"""What both have."""
DIFFUSION_TYPES: dict[str, tuple[type, ...]] = {**RULE_TYPES, "eta": (float, int), "spacing": (str,)}
FLOW_TYPES: dict[str, tuple[type, ...]] = {**RULE_TYPES, "sampler": (str,), "sigma": (str,), "shift": (float, int)}
TRAINED_FOR = ("prediction", "schedule", "num_train_timesteps")
"""`trained_for` of both."""
NAMES = ("PriorTransformer", "EclipsePriorTransformer")
"""diffusers' names for the network's class. `EclipsePriorPipeline.save_pretrained` writes the second."""
PLAIN = {
    "norm_in_type": None,
    "embedding_proj_norm_type": None,
    "encoder_hid_proj_type": "linear",
    "added_emb_type": "prd",
    "time_embed_act_fn": "silu",
    "dropout": 0.0,
}
"""The values that these options of ``PriorTransformer`` have in every published text-to-image prior."""
SIZES = {"num_layers": 20, "num_attention_heads": 32, "attention_head_dim": 64, "embedding_dim": 768, "num_embeddings": 77}
"""``PriorTransformer``'s defaults. Published configs omit some of them."""
PREDICTION = {"sample": "x0", "epsilon": "eps", "v_prediction": "v"}
"""diffusers' names for the quantity that a network predicts."""
PUBLISHED_RULE = {"prediction": "x0", "schedule": "cosine", "num_train_timesteps": 1000}
"""The rule of Karlo's and Kandinsky's priors. It is assumed for a network without a scheduler."""


class ReleasedPrior(SavedPrior):
    """One released prior, with diffusers' names.

    Args:
        source: Folder or hub id, as the user wrote it.
        folder: Local folder of the network.
        config: Content of its config.json.
        tensors: Its weights, in float32.
        rule: Arguments of DiffusionPrior or FlowPrior that the folder states; empty for a network without a scheduler.
        space: CLIP space; None if `export` did not write the folder.
    """

    def __init__(
        self,
        source: str,
        folder: Path,
        config: dict[str, Any],
        tensors: dict[str, Tensor],
        rule: dict[str, Any],
        space: ClipSpace | None = None,
    ) -> None:
        self.source, self.folder, self.config, self.tensors, self.rule, self.space = (
            source,
            folder,
            config,
            tensors,
            rule,
            space,
        )
        self.dim = self.size("embedding_dim")
        source_of_flow = {"source": "noise"} if "sampler" in rule else {}  # a flow from text has no place in this format
        self.trained_for = {name: rule[name] for name in TRAINED_FOR if name in rule} | source_of_flow
        self.training_data = []

    @property
    def is_diffusion(self) -> bool:
        return "time_embedding.linear_1.weight" in self.tensors

    def size(self, name: str) -> int:
        return int(self.config.get(name) or SIZES[name])

    @property
    def stated_in(self) -> str:
        return str(self.folder)

    @property
    def part(self) -> dict[str, Any]:
        if self.is_diffusion and not self.rule:
            rule = ", ".join(f"{name} {value}" for name, value in PUBLISHED_RULE.items())
            warnings.warn(
                f"{self.source} holds a network without the rule that it was trained by. It gets the rule that all "
                f"published priors have ({rule}). If a pipeline holds it, name the pipeline's folder, for its scheduler.",
                UserWarning,
                stacklevel=2,
            )
        kind = "diffusion.DiffusionPrior" if self.is_diffusion else "eclipse.EclipsePrior"
        if "sampler" in self.rule:
            kind = "flow.FlowPrior"
        return {"class_path": f"eclipse_pl.priors.{kind}", "init_args": self.init_args}

    @property
    def init_args(self) -> dict[str, Any]:
        """Arguments of the EclipsePrior, DiffusionPrior or FlowPrior that these weights belong to."""
        sizes = {name: self.size(name) for name in ("num_layers", "num_attention_heads", "attention_head_dim")}
        if not self.is_diffusion:
            return sizes
        statistics = self.statistics
        raw = bool((statistics["clip_mean"] == 0).all()) and bool((statistics["clip_std"] == 1).all())
        return sizes | self.rule | ({"standardise": "none"} if raw else {})

    @property
    def statistics(self) -> dict[str, Tensor]:
        """``clip_mean`` and ``clip_std``, (1, dim), which convert the network's output to raw embeddings.

        Raises:
            ValueError: A diffusion prior lacks them, or they hold zeros.
        """
        if not self.is_diffusion:
            return {"clip_mean": torch.zeros(1, self.dim), "clip_std": torch.ones(1, self.dim)}
        mean, std = self.tensors.get("clip_mean"), self.tensors.get("clip_std")
        if mean is None or std is None or not bool((std > 0).all()):
            what = "no clip_mean and clip_std" if mean is None or std is None else "a clip_std that is zero"
            raise ValueError(
                f"{self.source} has {what}: its output cannot be converted to raw embeddings. "
                "If the prior was trained on raw embeddings, set clip_mean to 0 and clip_std to 1 in its weights."
            )
        return {"clip_mean": mean, "clip_std": std}

    def load_into(self, prior: Prior) -> None:
        network = getattr(prior, "network", None)
        ours = network.state_dict() if isinstance(network, nn.Module) else {}
        if "prd_embedding" not in ours or not isinstance(network, nn.Module):
            raise ValueError(
                f"{self.source} is not a run of this project, and {type(prior).__name__} has no prior transformer for "
                "the weights of a released prior. Use the weights of a run, or an EclipsePrior, DiffusionPrior or FlowPrior."
            )
        if ("time_embedding.linear_1.weight" in ours) != self.is_diffusion:
            raise ValueError(
                f"{self.source} holds {'a diffusion prior' if self.is_diffusion else 'an ECLIPSE prior, without time token'}: "
                f"load it into {'DiffusionPrior or FlowPrior' if self.is_diffusion else 'EclipsePrior'}."
            )
        theirs = self.tensors | self.statistics
        if {"flow", "velocity"} & set(prior.trained_for.values()):  # no diffusion prior is either
            require_same_rule(prior, self.trained_for or PUBLISHED_RULE, f"The weights {self.source}")
        named = self._completed(prior, {f"network.{key}": tensor for key, tensor in theirs.items()})
        theirs = {key.removeprefix("network."): tensor for key, tensor in named.items()}
        require_same_weights(ours, theirs, f"The weights {self.source}")
        network.load_state_dict(theirs)


def read_released(source: str) -> ReleasedPrior:
    """Read a folder or hub id: the network's own folder, or a pipeline's folder, which holds it as ``prior``.

    Raises:
        ValueError: It is missing, damaged, a pickle, or another kind of model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    root = find_model_folder(source, ["*.json"])
    # the other parts of a pipeline are larger than its prior and are not fetched
    weights = "prior/*.safetensors" if (root / "prior" / "config.json").is_file() else "*.safetensors"
    root = find_model_folder(source, ["*.json", weights])
    if root.name == "prior" and (root.parent / "model_index.json").is_file():
        root = root.parent
    pipeline = (root / "model_index.json").is_file()
    inside = (root / "prior" / "config.json").is_file()
    if pipeline and not inside:
        raise ValueError(
            f"{source} is a pipeline without a prior ({read_config(root, 'model_index.json').get('_class_name')})."
        )
    folder = root / "prior" if inside else root
    config = read_config(folder)
    if config.get("_class_name") not in NAMES:
        raise ValueError(
            f"{folder} holds a {config.get('_class_name')}, not a PriorTransformer. All released priors are of this class."
        )
    other = {name: config[name] for name, value in PLAIN.items() if config.get(name, value) != value}
    other |= {
        name: config[name]
        for name in ("embedding_proj_dim", "clip_embed_dim")
        if config.get(name) not in (None, config.get("embedding_dim", SIZES["embedding_dim"]))
    }
    other |= {name: config[name] for name in SIZES if not isinstance(config.get(name, 1), int)}
    if other:
        raise ValueError(f"{folder} is not a text-to-image prior: its PriorTransformer has {other}.")
    tensors: dict[str, Tensor] = {}
    for path in find_weights(folder):
        try:
            tensors |= load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}). Fetch it again.") from error
    tensors = {key: value.float() for key, value in tensors.items()}
    require_numbers(tensors, f"The weights {source}")
    schedulers = [root / name for name in ("prior_scheduler", "scheduler") if inside and (root / name).is_dir()]
    space = ClipSpace.load(folder / SPACE) if (folder / SPACE).is_file() else None
    rule = stated_rule(folder, schedulers[0] if schedulers else None)
    return ReleasedPrior(source, folder, config, tensors, rule, space)


def stated_rule(folder: Path, scheduler: Path | None) -> dict[str, Any]:
    """Arguments of DiffusionPrior or FlowPrior, from the file that `export` wrote into ``folder`` and from the scheduler.

    Raises:
        ValueError: A file is damaged, or the two contradict each other.
    """
    rule: dict[str, Any] = {}
    if (folder / RULE).is_file():
        rule = read_config(folder, RULE)
        types = FLOW_TYPES if "sampler" in rule else DIFFUSION_TYPES
        wrong = [name for name, value in rule.items() if not isinstance(value, types.get(name, ()))]
        if wrong or rule.keys() != types.keys():
            name = (wrong or sorted(types.keys() - rule.keys()))[0]
            raise ValueError(
                f"{folder / RULE} has {name} {rule.get(name)!r}, which `export` does not write. Export the prior again."
            )
    if scheduler is None:
        return rule
    theirs = scheduler_rule(scheduler)
    other = [name for name, value in theirs.items() if rule.get(name, value) != value]
    if other:
        raise ValueError(
            f"{scheduler} has {other[0]} {theirs[other[0]]}, and {folder / RULE} has {rule[other[0]]}: these must be "
            "equal. Correct one of the files, or remove the wrong one."
        )
    return theirs | rule


def scheduler_rule(folder: Path) -> dict[str, Any]:
    """Arguments of DiffusionPrior from a scheduler of diffusers. Its defaults fill what its config lacks."""
    config = read_config(folder, "scheduler_config.json")
    name = config.get("_class_name", "UnCLIPScheduler")
    if name not in ("UnCLIPScheduler", "DDPMScheduler", "DDIMScheduler"):
        raise ValueError(
            f"{folder} holds a {name}; it must be an UnCLIPScheduler, DDPMScheduler or DDIMScheduler. Replace its "
            "config by the config of the one that the prior was trained with."
        )
    word = config.get("prediction_type", "epsilon")
    if word not in PREDICTION:
        raise ValueError(
            f"The scheduler of {folder} has prediction_type {word!r}; released priors have {', '.join(PREDICTION)}."
        )
    rule = {
        "prediction": PREDICTION[word],
        "schedule": "cosine" if name == "UnCLIPScheduler" else curve_of(config, folder),
        "num_train_timesteps": config.get("num_train_timesteps", 1000),
        "clamp": float(config.get("clip_sample_range", 1.0)) if config.get("clip_sample", True) else None,
    }
    if name == "UnCLIPScheduler":
        return rule
    return rule | {"eta": 1.0 if name == "DDPMScheduler" else 0.0, "spacing": config.get("timestep_spacing", "leading")}


def curve_of(config: dict[str, Any], folder: Path) -> str:
    """Our name for the betas of a DDPMScheduler or DDIMScheduler."""
    curve = config.get("beta_schedule", "linear")
    ends = (config.get("beta_start", 0.0001), config.get("beta_end", 0.02))
    plain = not any(config.get(name) for name in ("trained_betas", "rescale_betas_zero_snr", "thresholding"))
    if plain and curve == "squaredcos_cap_v2":
        return "cosine"
    if plain and curve == "linear" and ends == (0.0001, 0.02):
        return "linear"
    raise ValueError(
        f"The scheduler of {folder} has the betas {curve!r} from {ends[0]} to {ends[1]}{'' if plain else ', changed'}; a "
        "DiffusionPrior needs squaredcos_cap_v2 (cosine), or linear from 0.0001 to 0.02."
    )
