import re

import pytest

from eclipse_pl.run import Run
from eclipse_pl.training.named_checkpoint import checkpoint_path


def test_versions_count_up_and_commands_have_their_own(tmp_path):
    paths = []
    for command in ("fit", "fit", "validate", "test", "fit"):
        run = Run("exp", str(tmp_path))
        paths.append(run.open(command, None))
        run.close()
    assert [path.name for path in paths] == ["version_0", "version_1", "validate_0", "test_0", "version_2"]


def test_a_version_that_exists_is_refused(tmp_path):
    path = Run("exp", str(tmp_path), version="mine").open("fit", None)
    with pytest.raises(ValueError, match=r"Another process is writing to .*mine"):
        Run("exp", str(tmp_path), version="mine").open("fit", None)
    (path / "config.yaml").write_text("")
    with pytest.raises(ValueError, match=r"mine holds a run already.* or remove that folder$"):
        Run("exp", str(tmp_path), version="mine").open("fit", None)
    (path / "checkpoints").mkdir()
    (path / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(ValueError, match=r"mine holds a run already.* or resume that run: --ckpt_path .*last\.ckpt$"):
        Run("exp", str(tmp_path), version="mine").open("fit", None)


@pytest.mark.parametrize("version", ["", ".", "..", "a/b", "/a", "a\\b"])
def test_a_version_that_is_no_name_of_one_folder_is_refused(tmp_path, version):
    run = Run("exp", str(tmp_path), version=version)
    for call in (run.require_free, run.open):
        with pytest.raises(ValueError, match=r"^run\.version is '.*', .* choose a name without slashes.* or leave it out"):
            call("fit", None)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("experiment", ["", ".", "..", "../x", "a/../../x", "/x"])
def test_an_experiment_that_is_not_below_the_folder_of_all_runs_is_refused(tmp_path, experiment):
    with pytest.raises(
        ValueError, match=rf"^run\.experiment is '{re.escape(experiment)}', .* below run\.folder .*choose a name"
    ):
        Run(experiment, str(tmp_path / "runs")).require_free("fit", None)


def test_an_experiment_may_be_a_folder_of_a_folder(tmp_path):
    assert Run("group/exp", str(tmp_path), version="mine").open("fit", None) == tmp_path / "group" / "exp" / "mine"


def test_a_folder_that_lies_ready_is_taken(tmp_path):
    (tmp_path / "exp" / "mine").mkdir(parents=True)
    (tmp_path / "exp" / "mine" / "log.txt").write_text("the run will be written here")
    assert Run("exp", str(tmp_path), version="mine").open("fit", None) == tmp_path / "exp" / "mine"


def test_a_run_resumes_in_its_own_folder_only(tmp_path):
    first = Run("exp", str(tmp_path))
    path = first.open("fit", None)
    checkpoint = path / "checkpoints" / "last.ckpt"
    with pytest.raises(ValueError, match=r"Another process is writing to .*version_0"):
        Run("exp", str(tmp_path)).open("fit", str(checkpoint))
    first.close()
    checkpoint.parent.mkdir()
    (checkpoint.parent / "last.ckpt.here-1.partial").touch()  # of a process that was killed
    assert Run("exp", str(tmp_path)).open("fit", str(checkpoint)) == path
    assert not any(checkpoint.parent.iterdir())
    assert Run("other", str(tmp_path)).open("fit", str(checkpoint)).parent.name == "other"
    assert Run("exp", str(tmp_path)).open("test", str(checkpoint)).name == "test_0"


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"Cannot write to .*Set run\.folder"):
        Run("exp", str(tmp_path / "file")).open("fit", None)


def test_a_checkpoint_that_another_run_removes_meanwhile_is_passed_over(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "exp" / name / "checkpoints").mkdir(parents=True)
    whole = tmp_path / "exp" / "a" / "checkpoints" / "last.ckpt"
    whole.touch()
    (tmp_path / "exp" / "b" / "checkpoints" / "last.ckpt").symlink_to("removed.ckpt")
    assert checkpoint_path("last", str(tmp_path), "exp") == checkpoint_path(str(whole), str(tmp_path), "exp") == whole
