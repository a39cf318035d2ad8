"""A sweep file means here what it means to Weights & Biases, and what cannot be done is refused before anything runs."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from pathlib import Path
from random import Random

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from eclipse_pl.sweeps.parameter import TEXT_NUMBER, Parameter
from eclipse_pl.sweeps.sweep_file import SweepFile, text

SWEEPS = sorted((Path(__file__).parent.parent / "experiments" / "sweeps").glob("*.yaml"))
WEIGHT = "model.prior.init_args.contrastive_weight"
COMMAND = ["${env}", "${interpreter}", "-m", "eclipse_pl", "fit", "--config", "exp.yaml", "${args}"]


def write(folder: Path, **changes) -> Path:
    content = {
        "method": "grid",
        "parameters": {WEIGHT: {"values": [0.0, 0.2]}, "seed_everything": {"values": [0, 1]}},
        "command": COMMAND,
    } | changes
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}, sort_keys=False))
    return path


def read(folder: Path, **changes) -> SweepFile:
    return SweepFile.read(write(folder, **changes))


def test_a_grid_has_every_combination_the_last_parameter_fastest(tmp_path):
    file = read(tmp_path, parameters={"b": {"values": [2, 1]}, "c": {"value": "x"}, "a": {"min": 3, "max": 5}})
    assert [tuple(run.values()) for run in file.runs()] == [(b, "x", a) for b in (2, 1) for a in (3, 4, 5)]
    assert file.runs(count=4) == file.runs()[:4]
    assert len(read(tmp_path, run_cap=3).runs()) == 3
    assert len(read(tmp_path, run_cap=3).runs(count=2)) == 2


RANDOM = {
    "method": "random",
    "run_cap": 20,
    "parameters": {"lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-2}, "depth": {"min": 2, "max": 9}},
}


def test_random_draws_are_a_function_of_the_seed(tmp_path):
    file = read(tmp_path, **RANDOM)
    assert file.runs(seed=1) == file.runs(seed=1)
    assert file.runs(seed=1) != file.runs(seed=2)
    assert file.runs(count=5, seed=1) == file.runs(seed=1)[:5], "more runs later begin with the same ones"
    assert len({json.dumps(run) for run in file.runs()}) == 20


def test_random_draws_need_an_end_and_enough_to_draw_from(tmp_path):
    with pytest.raises(ValueError, match="give run_cap, or --count"):
        read(tmp_path, **RANDOM | {"run_cap": None}).runs()
    file = read(tmp_path, method="random", parameters={"a": {"values": [1, 2]}})
    assert sorted(run["a"] for run in file.runs(count=2)) == [1, 2]
    with pytest.raises(ValueError, match="300 draws gave only 2 different runs"):
        file.runs(count=3)


BOUNDED = ["uniform", "log_uniform_values", "q_uniform", "q_log_uniform_values", "int_uniform"]


@given(st.integers(0, 2**32), st.sampled_from(BOUNDED))
def test_draws_stay_within_their_bounds(seed, kind):
    low, high = (1, 7) if kind == "int_uniform" else (0.5, 8.0)
    step = {"q": 0.5} if kind.startswith("q_") else {}
    value = Parameter("a", {"distribution": kind, "min": low, "max": high, **step}, "random").draw(Random(seed))
    assert low <= value <= high
    assert type(value) is (int if kind == "int_uniform" else float)
    if step:
        assert (value / 0.5).is_integer()


@pytest.mark.parametrize(
    ("specification", "transform", "mean", "deviation"),
    [
        ({"min": 0.0, "max": 1.0}, float, 0.5, 12**-0.5),
        ({"distribution": "log_uniform_values", "min": 1.0, "max": math.e}, math.log, 0.5, 12**-0.5),
        ({"distribution": "normal", "mu": 3, "sigma": 2}, float, 3, 2),
        ({"distribution": "log_normal"}, math.log, 0, 1),
        ({"distribution": "q_normal", "mu": 3, "sigma": 2, "q": 0.01}, float, 3, 2),
        ({"distribution": "beta", "a": 2, "b": 2}, float, 0.5, 20**-0.5),
        ({"values": [0, 1], "probabilities": [0.2, 0.8]}, float, 0.8, 0.4),
    ],
    ids=str,
)
def test_distributions_have_their_moments(specification, transform, mean, deviation):
    rng, parameter = Random(0), Parameter("a", specification, "random")
    values = [transform(parameter.draw(rng)) for _ in range(4000)]
    found = sum(values) / len(values)
    assert found == pytest.approx(mean, abs=5 * deviation / 4000**0.5)
    assert (sum((value - found) ** 2 for value in values) / len(values)) ** 0.5 == pytest.approx(deviation, rel=0.06)


def test_versions_are_made_of_what_varies(tmp_path):
    parameters = {WEIGHT: {"values": [0.0, 0.25]}, "seed_everything": {"values": [3]}, "run.wandb": {"value": "off"}}
    file = read(tmp_path, parameters=parameters)
    assert file.versions(file.runs()) == [f"contrastive_weight={weight},seed_everything=3" for weight in ("0", "0.25")]
    parameters = {"data.init_args.seed": {"values": [1]}, "seed": {"values": [2]}, "config": {"values": ["exp/a.yaml"]}}
    file = read(tmp_path, parameters=parameters)
    assert file.versions(file.runs()) == ["data.seed=1,seed=2,config=a"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("runs/a/prior=x,seed_everything=0", "prior=x,seed_everything=0"),
        (0.25, "0.25"),
        ("runs/mean_image/version_0", "mean_image/version_0"),
        ("version_0", "version_0"),
    ],
)
def test_values_are_short_in_names(value, shown):
    assert text(value) == shown


TEXT = st.text(max_size=12).filter(lambda text: not TEXT_NUMBER.fullmatch(text))  # 1e5, which is refused
VALUE = st.one_of(TEXT, st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False))


LONG = st.lists(st.text("xy", max_size=90), min_size=1, max_size=3, unique=True)


# 1 and 1.0 are one value
@pytest.mark.long
@given(st.lists(VALUE, min_size=1, max_size=6, unique_by=(str, lambda value: (isinstance(value, bool), value))), LONG)
def test_versions_are_unique_short_and_safe(values, others):
    parameters = [Parameter(name, {"values": each}, "random") for name, each in (("a.b", values), ("c", others))]
    file = SweepFile(Path("s.yaml"), "s", "grid", COMMAND, None, parameters, None, None)
    runs = file.runs()
    names = file.versions(runs)
    assert len({name.casefold() for name in names}) == len(runs)
    assert all(re.fullmatch(r"[A-Za-z0-9._+=,-]{3,100}", name) for name in names)


def test_a_run_keeps_its_version_when_the_grid_grows(tmp_path):
    small = read(tmp_path)
    before = small.versions(small.runs())
    large = read(tmp_path, parameters={WEIGHT: {"values": [0.0, 0.2, 0.4]}, "seed_everything": {"values": [0, 1, 2]}})
    assert set(before) < set(large.versions(large.runs()))


def test_a_run_has_one_name_whatever_the_count(tmp_path):
    """In a grid both runs of one name have a hash, among draws the later."""
    values = {"a": {"values": ["x/part.yaml", "y/Part.yaml", "z.yaml"]}, "b": {"values": [1, 2]}}
    file = read(tmp_path, parameters=values)
    whole = file.versions(file.runs())
    assert [name.count("-") for name in whole] == [1, 1, 1, 1, 0, 0] and len(set(whole)) == 6
    assert all(file.versions(file.runs(count)) == whole[:count] for count in range(1, 6))
    file = read(tmp_path, method="random", parameters=values)
    whole = file.versions(file.runs(6))
    assert sum("-" in name for name in whole) == 2 and len(set(whole)) == 6
    assert all(file.versions(file.runs(count)) == whole[:count] for count in range(1, 6))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "bayes"}, "bayes needs the server"),
        ({"method": "gird"}, "must be grid or random"),
        ({"paramters": {}}, "key paramters is unknown; the keys are parameters"),
        ({"early_terminate": {"type": "hyperband"}}, "key early_terminate is unknown"),
        ({"parameters": {}}, "parameters is empty"),
        ({"parameters": {"a": {"value": 1}}}, "no parameter varies"),
        ({"parameters": {"a": {"values": []}}}, "a has no list of values"),
        ({"method": "random", "parameters": {"a": {"values": [1, 2], "probabilities": 0.5}}}, "a has probabilities 0.5"),
        ({"method": "random", "parameters": {"a": {"values": [1, 2], "probabilities": ["x", "y"]}}}, "a has probabilities"),
        ({"method": "random", "parameters": {"a": {"values": [1, 2], "probabilities": [2, -1]}}}, "a has probabilities"),
        ({"method": "random", "parameters": {"a": {"distribution": "beta", "a": -1}}}, "a has a -1 and b 1.0, which beta"),
        ({"method": "random", "parameters": {"a": {"distribution": "normal", "sigma": -1}}}, "sigma -1, which normal cannot"),
        ({"method": "random", "parameters": {"a": {"min": 0.0, "max": math.inf}}}, "max inf, which uniform cannot use"),
        ({"parameters": {"a": {"values": 3}}}, "a has no list of values: 3"),
        ({"parameters": {"a": {"values": [0.2, 0.4, 0.2]}}}, "a has the value 0.2 twice"),
        ({"parameters": {"a": {"values": [1, 1.0]}}}, "twice"),
        ({"parameters": {"a": {"values": [0.2, "0.2"]}}}, "twice"),
        ({"parameters": {"a": {"values": [None, 1]}}}, "the word None"),
        ({"parameters": {"a": 3}}, "a must be"),
        ({"parameters": {"a": {"values": [1, 2], "distribution": "uniform"}}}, "distribution uniform beside its values"),
        ({"parameters": {"a": {"value": 1, "distribution": "normal"}, "b": {"values": [1]}}}, "which is constant at most"),
        ({"name": ".."}, "give the sweep another name"),
        ({"parameters": {"a b": {"values": [1]}}}, "must be a path"),
        ({"parameters": {"a": {"parameters": {"b": {"values": [1]}}}}}, "write dotted names"),
        ({"parameters": {"a": {"values": [1], "min": 3}}}, "a has min, which is unknown there"),
        ({"parameters": {"a": {"min": 0.1, "max": 0.3}}}, "which a grid cannot do"),
        ({"method": "random", "parameters": {"a": {"min": 0, "max": 0.3}}}, "both integers, or both floats"),
        ({"method": "random", "parameters": {"a": {"min": 0.3, "max": 0.1}}}, "which uniform cannot use"),
        ({"method": "random", "parameters": {"a": {"min": "1e-5", "max": "1e-2"}}}, "write 1.0e-5"),
        ({"method": "random", "parameters": {"a": {"distribution": "log_uniform", "min": -5, "max": 0}}}, "not exponents"),
        ({"method": "random", "parameters": {"a": {"distribution": "log_uniform_values", "min": 0, "max": 1}}}, "cannot use"),
        ({"method": "random", "parameters": {"a": {"distribution": "q_normal", "q": 0}}}, "q 0; it must be a positive"),
        ({"method": "random", "parameters": {"a": {"distribution": "normal", "min": 0}}}, "min, which is unknown there"),
        ({"method": "random", "parameters": {"a": {"values": [1, 2], "probabilities": [0.5, 0.4]}}}, "adding up to 1"),
        ({"parameters": {"run.version": {"values": ["x"]}}}, "run.version cannot be swept"),
        ({"metric": {"name": "val/mse", "goal": "minimise"}}, "goal of metric is minimise; .* takes minimize or maximize"),
        ({"metric": "val/cosine"}, r"write \{name: val/cosine"),
        ({"command": None}, "the command is missing"),
        ({"command": [*COMMAND[:-1]]}, "would not reach the runs"),
        ({"command": [*COMMAND, "${args_json}"]}, r"the command has \$\{args_json\}"),
        ({"command": ["${program}", "${args}"]}, "program is not given"),
        ({"command": [*COMMAND, "--run.version=3"]}, "every run has its own folder"),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_what_cannot_be_swept_is_refused(tmp_path, changes, said):
    with pytest.raises(ValueError, match=said) as refused:
        read(tmp_path, **changes)
    assert str(refused.value).startswith(str(tmp_path / "sweep.yaml")), "the file is named"


@pytest.mark.parametrize("count", [0, -1])
def test_no_runs_at_all_is_refused(tmp_path, count):
    with pytest.raises(ValueError, match="at least 1"):
        read(tmp_path).runs(count=count)


def test_a_missing_or_broken_file(tmp_path):
    write(tmp_path)
    with pytest.raises(ValueError, match=r"no such sweep file; near it: .*sweep\.yaml"):
        SweepFile.read(tmp_path / "swep.yaml")
    (tmp_path / "sweep.yaml").write_text("a: [")
    with pytest.raises(ValueError, match="no YAML"):
        SweepFile.read(tmp_path / "sweep.yaml")
    (tmp_path / "sweep.yaml").write_text("- a")
    with pytest.raises(ValueError, match="is a mapping"):
        SweepFile.read(tmp_path / "sweep.yaml")


def agents_words(content: dict, values: dict) -> list[str]:
    """The command as wandb's own code makes it for the agent, with ``${interpreter}`` left as it is."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    macros = create_sweep_command_args({"args": {name: {"value": values[name]} for name in sorted(values)}})
    macros |= {"env": ["/usr/bin/env"], "interpreter": ["${interpreter}"], "program": [content.get("program")]}
    words: list[str] = []
    for word in create_sweep_command(list(content["command"])):
        words += macros[word[2:-1]] if str(word).startswith("${") else [str(word)]
    return words


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_wandb_takes_the_sweeps_as_they_are(path):
    sweeps = pytest.importorskip("wandb.apis.public.sweeps")
    if not hasattr(sweeps, "_validate_config_and_fill_distribution"):
        pytest.skip("this release of wandb leaves the check to its server")
    content = yaml.safe_load(path.read_text())
    assert sweeps._validate_config_and_fill_distribution(content)["parameters"].keys() == content["parameters"].keys()
    file = SweepFile.read(path)
    for values in file.runs(count=10):
        assert file.words(values) == agents_words(content, values)


@pytest.mark.parametrize("args", ["${args}", "${args_no_equals}"])
def test_commands_are_those_of_the_agent(tmp_path, monkeypatch, args):
    monkeypatch.setenv("WHERE", "there")
    content = {
        "program": "eclipse_pl",
        "command": ["${env}", "${interpreter}", "${program}", "--a", "${envvar:WHERE}/x-${envvar:NOWHERE}", 3, args],
        "parameters": {
            "b": {"values": [[1, 2]]},
            "f": {"values": [False]},
            "a.c": {"value": 1e-5},
            "d": {"value": "two words"},
        },
    }
    file = read(tmp_path, **content)
    (values,) = file.runs()
    assert file.words(values) == agents_words(content, values)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_schema_of_wandbs_server_takes_the_sweeps(path):
    """`wandb sweep` is answered by the server with what its schema, published in the package `sweeps`, has against a file."""
    jsonschema = pytest.importorskip("jsonschema", reason="the schema of sweep files is checked with jsonschema")
    spec = importlib.util.find_spec("sweeps")
    if spec is None:
        pytest.skip("the schema of sweep files is in wandb's package `sweeps`, which is not installed")
    schema = json.loads((Path(spec.submodule_search_locations[0]) / "config" / "schema.json").read_text())
    content = yaml.safe_load(path.read_text())
    validator = jsonschema.Draft7Validator(schema)
    assert [error.message for error in validator.iter_errors(content)] == []
    assert list(validator.iter_errors(content | {"methd": "grid"})), "the schema refuses what it does not know"


@given(st.from_regex(r"[1-9](\.[0-9])?[eE][+-]?[1-9]", fullmatch=True))
def test_a_number_that_yaml_reads_as_text_is_named_with_how_to_write_it(written: str) -> None:
    if not isinstance(yaml.safe_load(written), str):
        return
    for specification in ({"values": [written, 1]}, {"min": written, "max": 1.0, "distribution": "log_uniform_values"}):
        with pytest.raises(ValueError, match="reads as text") as refused:
            Parameter("lr", specification, "random")
        remedy = str(refused.value).rpartition("write ")[2]
        assert yaml.safe_load(remedy) == float(written)
