"""`--X.help` without a class names the classes that X can be, through the front door."""

from __future__ import annotations

import re
import sys
import types

import pytest

import eclipse_pl.decoders
import eclipse_pl.priors
from data_prep.__main__ import main as data_command
from eclipse_pl.__main__ import main as command
from eclipse_pl.class_help import classes_of
from eclipse_pl.compbench.calibration import Calibration
from eclipse_pl.decoders import KandinskyDecoder
from eclipse_pl.priors.mlp import MLPPrior
from eclipse_pl.priors.prior import Prior

NO_CHOICE = {"Decoder", "Prior", "PriorNetwork", "gaussian_noise"}


def ask(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        (data_command if words[0] == "embed" else command)(words)
    assert not stop.value.code
    return capsys.readouterr().out


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "classes", "others"),
    [
        (["fit", "--decoder.help"], eclipse_pl.decoders, ["eclipse_pl.world.decoder.WorldDecoder"]),
        (["fit", "--model.prior.help"], eclipse_pl.priors, ["eclipse_pl.priors.ovi.OviPrior"]),
        (["fit", "--trainer.callbacks.help"], None, ["lightning.pytorch.callbacks.EarlyStopping"]),
        (["fit", "--trainer.logger.help"], None, ["lightning.pytorch.loggers.CSVLogger"]),
        (
            ["fit", "--trainer.plugins.help"],
            None,
            ["lightning.pytorch.plugins.MixedPrecision", "lightning.pytorch.plugins.AsyncCheckpointIO"],
        ),
        (["fit", "--model.optimizer.help"], None, ["torch.optim.AdamW", "torch.optim.SGD"]),
        (
            ["fit", "--data.help"],
            None,
            [f"eclipse_pl.{name}" for name in ("data.datamodule.EmbeddingDataModule", "world.datamodule.WorldDataModule")],
        ),
        (["export", "--encoder.help"], None, ["eclipse_pl.encoders.openclip.OpenClipEncoder"]),
        (["embed", "--source.help"], None, ["eclipse_pl.raw.table.Table", "eclipse_pl.raw.tars.Tars"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and len(value) == 2 and value[1][0] == "-" else None,
)
def test_the_classes_are_named_and_each_has_its_options(words, classes, others, capsys) -> None:
    printed = ask(words, capsys)
    listed = dict(re.findall(r"^  ([\w.]+)(?:: (.+))?$", printed, re.MULTILINE))
    package = [] if classes is None else [f"{classes.__name__}.{name}" for name in set(classes.__all__) - NO_CHOICE]
    assert set(listed) >= {*package, *others}
    known = [
        path for path in listed if path.startswith(("eclipse_pl.", "data_prep.", "torch."))
    ]  # a test may have others loaded
    assert not [path for path in known if path.rpartition(".")[2] in {*NO_CHOICE, "Optimizer", "Encoder", "RawPairs"}]
    assert all(listed[name] for name in others), "each says what it is"
    assert not [path for path in listed if path.startswith("eclipse_pl.callbacks.")], "every run has them"
    front_door = "data_prep" if words[0] == "embed" else "eclipse_pl"
    (last,) = re.findall(rf"^The options of one: python -m {front_door} (.*)$", printed, re.MULTILINE)
    assert last.split()[:-1] == words and last.split()[-1] in listed
    options = ask(last.split(), capsys)
    assert (
        f"Help for {words[-1]}=" in options or f"[{words[-1].removesuffix('.help')}." in options
    )  # one base class, or several


class OwnDecoder(KandinskyDecoder):
    """A decoder of one's own (Own et al. 2026), which is imported. It has more sentences."""


class UnfinishedPrior(Prior):
    """Lacks both methods."""


def test_a_class_that_cannot_be_built_is_not_named() -> None:
    class LocalDecoder(KandinskyDecoder):
        """No config can name it."""

    assert not [path for path, _ in classes_of(Prior) if path.endswith("UnfinishedPrior")]
    found = dict(classes_of(eclipse_pl.decoders.Decoder))
    assert [purpose for path, purpose in found.items() if path.endswith("OwnDecoder")] == [
        "A decoder of one's own (Own et al. 2026), which is imported"
    ]
    assert not [path for path in found if path.endswith(("PipelineDecoder", LocalDecoder.__name__))]


def test_a_class_whose_module_was_removed_is_not_named(monkeypatch) -> None:
    module = types.ModuleType("removed_module")
    module.RemovedPrior = type("RemovedPrior", (MLPPrior,), {"__module__": module.__name__})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert "removed_module.RemovedPrior" in dict(classes_of(Prior))
    monkeypatch.delitem(sys.modules, module.__name__)
    assert "removed_module.RemovedPrior" not in dict(classes_of(Prior))


def test_a_class_without_subclasses_has_the_help_of_jsonargparse() -> None:
    assert classes_of(Calibration) == []
