"""Every YAML under experiments/ parses, keeps to the grammar, and every experiment trains."""

import importlib
import itertools
import re
from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser

from eclipse_pl.__main__ import main as command
from eclipse_pl.cli import main
from eclipse_pl.dotted_keys import flat
from eclipse_pl.priors.baselines import MeanImagePrior
from eclipse_pl.run import read_metrics
from eclipse_pl.sweeps.sweep_file import SweepFile
from tests.helpers.released_folders import write_eclipse, write_stock
from tests.helpers.saved_runs import make_run
from tests.helpers.shard_sets import make_space

ROOT = Path(__file__).parent.parent / "experiments"
EXPERIMENTS = sorted(ROOT.glob("*.yaml"))
PARTS = sorted(ROOT.glob("parts/*/*.yaml"))
OVERLAYS = sorted(ROOT.glob("overlays/*.yaml"))
SWEEPS = sorted(ROOT.glob("sweeps/*.yaml"))
SMALL = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}
OTHERS = ("projection", "diffusion", "mlp", "linear", "text_as_image")
NEWER = ("flow", "flow_x0", "energy", "eclipse_energy", "nearest_neighbour", "flow_best_of_2", "mean_flow", "flow_text")
PAIRS = (
    {
        (pair, f"{other}_{place}"): {"run.experiment", "model.prior"}
        for pair, place in (
            ("eclipse_karlo", "karlo"),
            ("eclipse_kandinsky", "kandinsky"),
            ("eclipse_h14", "h14"),
            ("quickstart", "world"),
        )
        for other in OTHERS
    }
    | {
        (pair, f"{other}_{place}"): {"run.experiment", "model.prior"}
        for pair, place in (("eclipse_karlo", "karlo"), ("quickstart", "world"))
        for other in NEWER
    }
    | {
        ("projection_karlo", "projection_whitened_karlo"): {"run.experiment", "model.prior"},
        ("projection_world", "projection_whitened_world"): {"run.experiment", "model.prior"},
        ("quickstart", "mean_image_world"): {"run.experiment", "model.prior"},
        ("quickstart", "distilled_world"): {"run.experiment", "data"},
        ("eclipse_karlo", "eclipse_kandinsky"): {"run.experiment", "data", "decoder"},
        ("eclipse_karlo", "eclipse_h14"): {"run.experiment", "data", "decoder"},
        ("eclipse_karlo", "eclipse_karlo_one_gpu"): {"run.experiment", "trainer", "data", "checkpoint.every_n_steps"},
    }
)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", EXPERIMENTS + SWEEPS, ids=name)
def test_header(path):
    head = path.read_text().splitlines()[:4]
    for line, word in zip(head, ("Question", "Run", "Cost", "Expect"), strict=True):
        assert re.match(rf"# {word} +\S", line), line
        assert not re.search(r" [A-Z_]{4,}$", line), f"a placeholder was left: {line}"
    assert f"experiments/{name(path)}" in head[1]
    tree = yaml.safe_load(path.read_text())
    assert (tree["name"] if path in SWEEPS else tree["run"]["experiment"]) == path.stem


@pytest.mark.parametrize("path", EXPERIMENTS + PARTS + OVERLAYS, ids=name)
def test_grammar(path):
    tree = yaml.safe_load(path.read_text())
    keys = {key for key, _ in itertools.chain([(None, tree)], flat(tree).items()) if key}
    assert not any(key == "config" or key.endswith(".config") for key in keys), "a config: key is ignored by LightningCLI"
    assert not any("." in key for key in tree), "a dotted key beside an include drops the include"


@pytest.mark.parametrize("path", [part for part in PARTS if "class_path" in yaml.safe_load(part.read_text())], ids=name)
def test_parts_state_every_argument_they_share_with_a_sibling(path):
    """An overlay that changes the class would carry an unstated argument's old value over (Lightning #18072)."""

    def arguments(part: Path) -> tuple[set[str], set[str]]:
        tree = yaml.safe_load(part.read_text())
        module, _, class_name = tree["class_path"].rpartition(".")
        parser = ArgumentParser()
        parser.add_class_arguments(getattr(importlib.import_module(module), class_name))
        accepted, stated = set(parser.get_defaults().as_dict()), set(tree.get("init_args", {}))
        return accepted - ({"space"} - stated), stated  # a prior's space is linked, a decoder's stated

    accepted, stated = arguments(path)
    assert stated <= accepted
    for sibling in path.parent.glob("*.yaml"):
        shared = accepted & arguments(sibling)[1]
        assert shared <= stated, f"{sibling.name} states {shared - stated}"


@pytest.mark.parametrize(("one", "other"), PAIRS, ids="-".join)
def test_pairs_differ_in_the_lines_under_study_only(one, other):
    left, right = (flat(yaml.safe_load((ROOT / f"{stem}.yaml").read_text())) for stem in (one, other))
    differing = {key for key in left.keys() | right.keys() if left.get(key) != right.get(key)}
    assert differing == PAIRS[one, other]


def test_energy_parts_differ_in_the_loss_alone():
    for size in ("33m", "world", "pooled"):
        for kind, without in (("energy", "projection"), ("eclipse_energy", "eclipse")):
            parts = [ROOT / f"parts/prior/{stem}_{size}.yaml" for stem in (kind, without)]
            left, right = (yaml.safe_load(part.read_text())["init_args"] for part in parts)
            assert left == right | {"projection": "energy", "samples": 2}


def test_projection_parts_are_eclipse_parts_without_the_contrastive_term():
    for size in ("33m", "world", "pooled"):
        parts = [ROOT / f"parts/prior/{kind}_{size}.yaml" for kind in ("eclipse", "projection")]
        left, right = (yaml.safe_load(part.read_text()) for part in parts)
        assert right["init_args"].pop("contrastive_weight") == 0
        assert left["init_args"].pop("contrastive_weight") == 0.2
        assert left == right


@pytest.fixture(scope="module")
def working_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("experiments")


@pytest.fixture(scope="module")
def weights(working_folder):
    """What fine-tuning begins with: a released folder and a run, both of the world's width."""
    released = write_eclipse(working_folder / "released", embedding_dim=128, num_embeddings=32, num_layers=2)
    warm = ["--run.version", "fine_tuned", "--run.experiment", "weights"]
    smoke = ["--config", str(ROOT / "overlays/smoke.yaml"), f"--run.folder={working_folder / 'runs'}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(working_folder)
        main(["fit", "--config", str(ROOT / "warm_world.yaml"), *smoke, *warm])
    run = working_folder / "runs" / "weights" / "fine_tuned"
    diffusion = write_stock(working_folder / "diffusion", embedding_dim=128, num_embeddings=32, **SMALL)
    return {"finetune_kandinsky": released, "finetune_world": run, "lora_kandinsky": diffusion}


def shallow(path: Path) -> list[str]:
    """Two layers for a network of the published depth. Depth takes time, and two steps show nothing of it."""
    prior = yaml.safe_load(path.read_text())["model"]["prior"]
    prior = yaml.safe_load((ROOT / prior).read_text()) if isinstance(prior, str) else prior
    return ["--model.prior.init_args.num_layers=2"] if prior.get("init_args", {}).get("num_layers", 0) > 4 else []


@pytest.mark.processes
@pytest.mark.parametrize("path", EXPERIMENTS, ids=name)
def test_every_experiment_trains_on_a_small_world(path, working_folder, monkeypatch, weights):
    monkeypatch.chdir(working_folder)
    given = [f"--model.prior.init_args.weights={weights[path.stem]}"] if path.stem in weights else []
    if path.stem == "lora_kandinsky":  # of the same class, and small
        sizes = {**SMALL, "weights": weights[path.stem]}
        given = [f"--model.prior.init_args.prior_args.{name}={value}" for name, value in sizes.items()]
    main(["fit", "--config", str(path), "--config", str(ROOT / "overlays/smoke.yaml"), *given, *shallow(path)])
    run = working_folder / "runs" / path.stem / "version_0"
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert read_metrics(run / "metrics.csv")[-1]["val/cosine"] != ""
    stated = yaml.safe_load((run / "config.yaml").read_text())
    assert stated["trainer"]["max_steps"] == 2
    assert stated["run"]["experiment"] == path.stem


# the world on a processor, published models on four GPUs, and arrays of other people without decoder or checkpoints
KINDS = ("quickstart", "diffusion_karlo", "coco500")


@pytest.mark.long
@pytest.mark.parametrize("path", [overlay for overlay in OVERLAYS if overlay.stem != "smoke"], ids=name)
@pytest.mark.parametrize("kind", KINDS)
def test_overlays_parse_over_every_kind_of_experiment(path, kind, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", str(ROOT / f"{kind}.yaml"), "--config", str(path), "--print_config"])
    assert stop.value.code == 0
    printed = flat(yaml.safe_load(capsys.readouterr().out))
    for key, value in flat(yaml.safe_load(path.read_text())).items():
        assert printed[key] == value


def samples(file: SweepFile) -> list[dict]:
    """At least three runs, every value of every parameter among them; one seed and one run of another sweep stand for all."""
    runs, seen, chosen = file.runs(), set(), []
    for values in runs:
        new = {(key, str(value)) for key, value in values.items() if key not in ("seed_everything", "ckpt_path", "prior")}
        if new - seen:
            seen |= new
            chosen.append(values)
    return chosen + [values for values in runs if values not in chosen][: max(0, 3 - len(chosen))]


@pytest.mark.long
@pytest.mark.parametrize("path", SWEEPS, ids=name)
def test_sweeps_would_run(path, tmp_path, monkeypatch, capsys):
    """From a folder without runs: command lines of every kind are read, base config and parameters included."""
    (tmp_path / "experiments").symlink_to(ROOT)
    monkeypatch.chdir(tmp_path)
    file = SweepFile.read(path)
    runs = file.runs() if path.stem == "temperature_world" else samples(file)
    monkeypatch.setattr(SweepFile, "runs", lambda *_: runs)
    for run in {values["ckpt_path"] for values in runs if "ckpt_path" in values}:  # made by another sweep
        make_run(Path(run), MeanImagePrior, make_space())
        if "--config" not in file.command:  # the run's own config is read
            tree = yaml.safe_load((ROOT / "quickstart.yaml").read_text())["model"]
            part = re.search(r"prior=(\w+)", run)[1]
            config = {
                "data": str(ROOT / "parts/data/world.yaml"),
                "model": tree | {"prior": str(ROOT / f"parts/prior/{part}.yaml")},
            }
            (Path(run) / "config.yaml").write_text(yaml.safe_dump(config))
    assert command(["sweep", f"experiments/{name(path)}", "--dry-run"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == f"# {path.stem}: {len(lines)} runs in runs/{path.stem}, 0 of them finished"
    assert len(lines) == len(set(lines)) == len(runs)
    assert all(f"--{parameter.name}=" in line for parameter in file.parameters for line in lines)


def test_the_first_sweep_has_every_lambda_with_every_seed():
    runs = SweepFile.read(ROOT / "sweeps" / "lambda_world.yaml").runs()
    weights = [0, 0.2, 0.4, 0.6, 0.8, 1]
    found = [(run["model.prior.init_args.contrastive_weight"], run["seed_everything"]) for run in runs]
    assert found == [(weight, seed) for weight in weights for seed in range(5)]
