"""The front door: what a user types, what the run leaves behind, and what a mistake is answered with."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.plugins.precision import MixedPrecision, Precision

from eclipse_pl.__main__ import main as command
from eclipse_pl.callbacks.latent import LatentEvaluation
from eclipse_pl.cli import main
from eclipse_pl.lit_prior import LitPrior
from eclipse_pl.run import MetricsFile
from tests.helpers.ranks import run_command
from tests.helpers.runs import metrics, write_experiment
from tests.helpers.shard_sets import make_shard_set, make_space
from tests.test_eclipse import tiny_batch, tiny_prior

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An experiment and the folder of its run."""
    folder = tmp_path_factory.mktemp("trained")
    experiment = write_experiment(folder, model__log_gradient_norms_every=2, trainer__val_check_interval=5)
    assert command(["fit", "--config", str(experiment)]) == 0
    return experiment, folder / "runs" / "tiny" / "version_0"


def refused(capfd, *args: str) -> str:
    """The one line that a mistake is answered with."""
    assert command(list(args)) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_a_run_leaves_config_metrics_checkpoint_and_table(trained):
    _, run = trained
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["prior"]["init_args"]["contrastive_weight"] == 0.2, "defaults are stated in what really ran"
    assert "space" not in config["model"]["prior"]["init_args"]
    logged = metrics(run)
    names = {name for step in logged.values() for name in step}
    assert {"train/projection", "train/contrastive", "train/total", "lr", "samples_seen"} <= names
    assert {"gradient_norm/projection", "gradient_norm/contrastive"} <= names
    for row in ("", "unseen/", "mean_image/", "text_as_image/", "ridge/", "upper_bound/"):
        assert f"val/{row}cosine" in names
    assert logged[9]["samples_seen"] == 80
    report = json.loads((run / "latent.json").read_text())
    assert list(report["rows"]) == ["this prior", "mean_image", "text_as_image", "ridge", "upper_bound"]
    assert report["rows"]["upper_bound"]["all"]["cosine"] == pytest.approx(1)
    assert report["rows"]["ridge"]["all"]["cosine"] > report["rows"]["mean_image"]["all"]["cosine"] + 0.2


def test_checkpoints_hold_nothing_that_must_be_unpickled(trained):
    checkpoint = torch.load(trained[1] / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 10
    assert checkpoint["space"]["identity"]["name"] == "tiny"


def test_gradient_norms_are_those_of_the_terms_alone(trained):
    _, run = trained
    steps = [step for step, values in metrics(run).items() if "gradient_norm/total" in values]
    assert steps == [0, 2, 4, 6, 8]


def test_gradient_norms_of_half_precision_do_not_vanish():
    """In float16 by autocast, with a loss so small that its gradients are 0 there without the scale of the loss."""
    prior = tiny_prior(noise="zero", contrastive_weight=0.0)
    module = LitPrior(prior, torch.optim.SGD)
    plain, half = Precision(), MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**16))
    norms = []
    for precision in (plain, half):
        module.trainer = SimpleNamespace(precision_plugin=precision)
        with precision.forward_context():
            loss = 1e-7 * prior.losses(tiny_batch())["projection"]
        norms.append(module.gradient_norms({"projection": loss})["gradient_norm/projection"])
    assert norms[1] == pytest.approx(norms[0], rel=0.05)


def test_validate_and_test_read_a_runs_checkpoint(trained, capsys):
    experiment, run = trained
    for name, split in (("validate", "val"), ("test", "test")):
        main([name, "--config", str(experiment), "--ckpt_path", str(run)])
        report = json.loads((run.parent / f"{name}_0" / "latent.json").read_text())
        assert report["stage"] == split
        assert report["step"] == 10
        assert "this prior" in capsys.readouterr().out
    whole = json.loads((run / "latent.json").read_text())["rows"]
    validated = json.loads((run.parent / "validate_0" / "latent.json").read_text())["rows"]
    assert validated["this prior"]["all"] == pytest.approx(whole["this prior"]["all"], abs=1e-5)


def test_the_saved_config_runs_again_with_the_same_result(trained):
    _, run = trained
    main(["fit", "--config", str(run / "config.yaml")])
    again = run.parent / "version_1"
    assert metrics(again)[9]["train/total"] == metrics(run)[9]["train/total"]


def test_weight_averaging_is_lightnings_own(tmp_path):
    average = {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.5}}
    main(["fit", "--config", str(write_experiment(tmp_path, average=average))])
    checkpoint = torch.load(tmp_path / "runs/tiny/version_0/checkpoints/last.ckpt", weights_only=True)
    averaged, raw = checkpoint["state_dict"], checkpoint["current_model_state"]
    assert any(not torch.equal(averaged[key], raw[key]) for key in averaged)


@pytest.mark.processes
def test_wandb_works_offline_without_an_account(tmp_path, monkeypatch, capfd):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    experiment = write_experiment(tmp_path, run__wandb="auto", trainer__max_steps=2, trainer__val_check_interval=2)
    # a process of its own: wandb leaves sockets open that pytest takes for mistakes of ours
    done = run_command(tmp_path / "said", ["fit", "--config", str(experiment)])
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("No Weights & Biases account found: logging offline") == 1
    (log,) = (tmp_path / "runs/tiny/version_0/wandb").glob("offline-run-*/*.wandb")
    assert b"val/cosine" in log.read_bytes()
    assert b"contrastive_weight" in log.read_bytes()


@pytest.mark.parametrize("prior", ["TextAsImagePrior", "MeanImagePrior", "LinearPrior"])
def test_baselines_go_through_fit(tmp_path, prior):
    """With the settings of any other prior: one pass over the pairs is all that they take of the steps."""
    experiment = write_experiment(
        tmp_path, model__prior={"class_path": f"eclipse_pl.priors.baselines.{prior}"}, trainer__max_steps=100_000
    )
    main(["fit", "--config", str(experiment)])
    rows = json.loads((tmp_path / "runs/tiny/version_0/latent.json").read_text())["rows"]
    twin = {"TextAsImagePrior": "text_as_image", "MeanImagePrior": "mean_image", "LinearPrior": "ridge"}[prior]
    assert rows["this prior"]["all"] == pytest.approx(rows[twin]["all"], abs=1e-5)
    main(["validate", "--config", str(experiment), "--ckpt_path", str(tmp_path / "runs/tiny/version_0")])
    again = json.loads((tmp_path / "runs/tiny/validate_0/latent.json").read_text())["rows"]
    assert again["this prior"]["all"] == pytest.approx(rows["this prior"]["all"], abs=1e-5)


@pytest.mark.parametrize("name", ["", "checkpoints/last.ckpt"])
def test_validate_takes_the_config_of_the_run_that_is_measured(trained, tmp_path, name):
    """The run's own option, and not the default, unless the command line has another."""
    _, run = trained
    own = yaml.safe_load((run / "config.yaml").read_text())
    main(["validate", f"--ckpt_path={run / name}", f"--run.folder={tmp_path}", "--data.init_args.batch_size=2"])
    (measured,) = (tmp_path / own["run"]["experiment"]).iterdir()
    stated = yaml.safe_load((measured / "config.yaml").read_text())
    assert measured.name == "validate_0"
    assert stated["model"]["prior"] == own["model"]["prior"]
    assert (own["data"]["init_args"].pop("batch_size"), stated["data"]["init_args"].pop("batch_size")) == (8, 2)
    assert stated["data"] == own["data"]
    rows = [json.loads((folder / "latent.json").read_text())["rows"]["this prior"]["all"] for folder in (run, measured)]
    assert rows[1] == pytest.approx(rows[0], abs=1e-5)


# mistakes


def test_unknown_command(capfd):
    assert "The commands are init, fit" in refused(capfd, "fitt")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model__prior__init_args__num_layer": 3}, "num_layer"),
        ({"model__priors": 1}, "priors"),
        ({"trainer__max_step": 3}, "max_step"),
        ({"sample": 1}, "sample"),
        ({"model__prior__class_path": "eclipse_pl.priors.eclipse.EclipsPrior"}, "EclipsPrior"),
        ({"model__prior__init_args__noise": "gausian"}, "gausian"),
        ({"model__prior__init_args__temperature": "cold"}, "cold"),
    ],
)
def test_misspelt_keys_and_values_name_themselves(tmp_path, capfd, changes, said):
    with pytest.raises(SystemExit) as stop:
        command(["fit", "--config", str(write_experiment(tmp_path, **changes))])
    assert stop.value.code == 2
    message = capfd.readouterr().err
    assert said in message
    assert "Traceback" not in message


def test_an_optimizer_has_no_default(tmp_path, capfd):
    experiment = write_experiment(tmp_path)
    tree = yaml.safe_load(experiment.read_text())
    del tree["model"]["optimizer"]
    experiment.write_text(yaml.safe_dump(tree))
    with pytest.raises(SystemExit):
        command(["fit", "--config", str(experiment)])
    assert "optimizer" in capfd.readouterr().err


def test_missing_shards(tmp_path, capfd):
    experiment = write_experiment(tmp_path, data__init_args__folder=str(tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere") in refused(capfd, "fit", "--config", str(experiment))
    assert not (tmp_path / "runs").exists(), "nothing is begun"


OWN_DATA = """
from eclipse_pl.data.datamodule import EmbeddingDataModule


class OwnData(EmbeddingDataModule):
    @property
    def shards(self):
        {line}
"""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "return self.shard_set",
            r"OwnData does not give the space of its pairs: 'OwnData' .* 'shard_set' \(.*own\w+\.py, line 8\)",
        ),
        ("raise ValueError('there are no pairs today')", r"error: there are no pairs today$"),
        ("raise PermissionError(13, 'Permission denied', 'pairs')", r"error: Permission denied \(pairs\)\."),
    ],
)
def test_a_mistake_in_the_data_of_ones_own_is_what_is_said(tmp_path, capfd, monkeypatch, line, said):
    """And not that the prior lacks a space: jsonargparse would leave a link out that ends in an AttributeError."""
    name = f"own_{abs(hash(line))}"
    (tmp_path / f"{name}.py").write_text(OWN_DATA.format(line=line))
    monkeypatch.syspath_prepend(tmp_path)
    experiment = write_experiment(tmp_path, data__class_path=f"{name}.OwnData")
    assert re.search(said, refused(capfd, "fit", "--config", str(experiment)))
    assert not (tmp_path / "runs").exists()


def test_a_missing_and_a_truncated_shard_are_named_with_their_repair(tmp_path, capfd):
    experiment = write_experiment(tmp_path)
    shard = sorted((tmp_path / "shards").glob("*.tar"))[1]
    shard.write_bytes(shard.read_bytes()[:-512])
    said = refused(capfd, "fit", "--config", str(experiment))
    assert shard.name in said
    assert "python -m data_prep embed" in said
    shard.unlink()
    said = refused(capfd, "fit", "--config", str(experiment))
    assert shard.name in said
    assert "missing" in said


def test_a_tampered_shard_is_found_by_its_checksum(tmp_path, capfd):
    experiment = write_experiment(tmp_path, data__init_args__check="sha256")
    shard = sorted((tmp_path / "shards").glob("*.tar"))[0]
    content = bytearray(shard.read_bytes())
    content[700] ^= 1
    shard.write_bytes(content)
    assert shard.name in refused(capfd, "fit", "--config", str(experiment))


def test_fewer_pairs_than_a_batch(tmp_path, capfd):
    said = refused(capfd, "fit", "--config", str(write_experiment(tmp_path, data__init_args__batch_size=1000)))
    assert "64" in said
    assert "1000" in said


def test_nan_in_embeddings_stops_before_the_weights(tmp_path, capfd):
    experiment = write_experiment(tmp_path)
    shards = tmp_path / "shards"
    manifest = json.loads((shards / "manifest.json").read_text())
    shard = manifest["shards"][0]
    start, size = shard["records"][0]["members"]["image_embed.npy"]
    content = bytearray((shards / shard["name"]).read_bytes())
    content[start + size - 2 : start + size] = np.float16("nan").tobytes()
    (shards / shard["name"]).write_bytes(content)
    said = refused(capfd, "fit", "--config", str(experiment))
    assert "image_embed" in said
    assert "data_prep verify" in said


def test_divergence_is_distinguished_from_bad_data(tmp_path, capfd):
    experiment = write_experiment(tmp_path, model__optimizer__init_args__lr=1e30)
    assert "training diverged" in refused(capfd, "fit", "--config", str(experiment))


def test_a_checkpoint_of_another_architecture(trained, capfd):
    experiment, run = trained
    validate = ["validate", "--config", str(experiment), "--ckpt_path", str(run)]
    said = refused(capfd, *validate, "--model.prior.init_args.num_layers=3")
    assert "another architecture" in said
    assert "transformer_blocks.2" in said
    said = refused(capfd, *validate, "--model.prior.init_args.attention_head_dim=16")
    assert "of another shape" in said


def test_a_checkpoint_of_another_space(trained, tmp_path, capfd):
    _, run = trained
    make_shard_set(
        tmp_path / "shards", splits={"train": 64, "val": 16, "test": 16}, space=make_space(name="other", dim=8, width=6)
    )
    said = refused(capfd, "fit", "--config", str(write_experiment(tmp_path)), "--ckpt_path", str(run))
    assert "different CLIP spaces" in said
    assert "tiny" in said
    assert "other" in said


def test_a_missing_checkpoint_names_its_neighbours(trained, capfd):
    experiment, run = trained
    said = refused(capfd, "fit", "--config", str(experiment), "--ckpt_path", str(run / "checkpoints" / "lst.ckpt"))
    assert "last.ckpt" in said


class Payload:
    def __reduce__(self):
        return (print, ("unpickled!",))


def test_a_pickle_is_never_loaded(trained, tmp_path, capfd):
    experiment, _ = trained
    torch.save({"state_dict": {}, "payload": Payload()}, tmp_path / "evil.ckpt")
    assert "never loaded" in refused(capfd, "fit", "--config", str(experiment), "--ckpt_path", str(tmp_path / "evil.ckpt"))
    (tmp_path / "cut.ckpt").write_bytes(b"PK\3\4")
    assert "damaged" in refused(capfd, "fit", "--config", str(experiment), "--ckpt_path", str(tmp_path / "cut.ckpt"))
    assert "unpickled!" not in capfd.readouterr().out


def test_a_checkpoint_of_another_program_or_of_weights_alone(trained, tmp_path, capfd):
    experiment, run = trained
    whole = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    files = {
        "plain.ckpt": ({"state_dict": {}}, "was not written by eclipse_pl"),
        "list.ckpt": ([1, 2], "was not written by eclipse_pl"),
        "odd.ckpt": ({**whole, "space": 3}, "was not written by eclipse_pl"),
        "older.ckpt": (
            {name: whole[name] for name in ("state_dict", "space")},
            "was not written by eclipse_pl: it lacks global_step",
        ),
        "weights.ckpt": (
            {name: value for name, value in whole.items() if name not in ("optimizer_states", "callbacks")},
            "set model.prior.init_args.weights to",
        ),
    }
    before = sorted(run.parent.iterdir())
    for name, (content, said) in files.items():
        torch.save(content, tmp_path / name)
        assert said in refused(capfd, "fit", "--config", str(experiment), "--ckpt_path", str(tmp_path / name))
    (tmp_path / "empty.ckpt").touch()
    (tmp_path / "cut.ckpt").write_bytes((run / "checkpoints" / "last.ckpt").read_bytes()[:2000])
    for name in ("empty.ckpt", "cut.ckpt"):
        assert "is damaged" in refused(capfd, "fit", "--config", str(experiment), "--ckpt_path", str(tmp_path / name))
    assert sorted(run.parent.iterdir()) == before, "nothing is begun"


def test_a_gpu_experiment_without_a_gpu(tmp_path, capfd):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert "gpu" in refused(capfd, "fit", "--config", str(write_experiment(tmp_path, trainer__accelerator="gpu"))).lower()


def test_ctrl_c_in_a_validation_is_no_failure(tmp_path, capfd, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)  # Lightning ignores it from then on
    monkeypatch.setattr(LatentEvaluation, "on_validation_batch_end", interrupt)
    try:
        assert command(["validate", "--config", str(write_experiment(tmp_path))]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_file_in_place_of_a_folder_is_one_sentence(tmp_path, capfd):
    (tmp_path / "afile").touch()
    for words in (
        ["init", str(tmp_path / "afile" / "mine")],
        ["fit", "--config", str(ROOT / "experiments/quickstart.yaml"), "--data.init_args.folder", str(tmp_path / "afile")],
    ):
        assert command(words) == 2
        said = capfd.readouterr().err
        assert "error: " in said and str(tmp_path / "afile") in said and "Traceback" not in said


def test_a_taken_version_is_refused_before_anything_is_built(tmp_path, capfd):
    experiment = write_experiment(tmp_path, run__version="mine", data__init_args__folder=str(tmp_path / "missing"))
    (tmp_path / "runs/tiny/mine").mkdir(parents=True)
    (tmp_path / "runs/tiny/mine/config.yaml").touch()
    assert command(["fit", "--config", str(experiment)]) == 2
    said = capfd.readouterr().err
    assert "mine holds a run already" in said and "missing" not in said


def test_a_full_disk_is_one_sentence(tmp_path, capfd, monkeypatch):
    experiment = write_experiment(tmp_path)

    def write(self: MetricsFile, rows: list) -> None:
        with open("/dev/full", "w") as file:
            file.write("x" * 100_000)

    monkeypatch.setattr(MetricsFile, "_write", write)
    assert "No space left" in refused(capfd, "fit", "--config", str(experiment))


def test_init_on_a_full_disk_is_one_sentence(tmp_path, capfd, monkeypatch):
    written = []

    def copy(source, target):
        written.append(target)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source), None, str(target))  # as shutil.copyfile does

    monkeypatch.setattr(shutil, "copyfile", copy)
    said = refused(capfd, "init", str(tmp_path / "work"))
    (target,) = written
    assert said == f"error: cannot write: No space left on device ({target})." and target.is_relative_to(tmp_path)
    assert not any((tmp_path / "work").iterdir())


@pytest.mark.processes
@pytest.mark.parametrize("words", [["--help"], ["sweep", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(words):
    code = f"import sys; from eclipse_pl.__main__ import main\ntry: main({words})\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_no_option_is_abbreviated(tmp_path, capfd):
    """A typo would be one."""
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(write_experiment(tmp_path)), "--trainer.max_step=3"])
    assert "--trainer.max_step=3" in capfd.readouterr().err
