from eclipse_pl.run import MetricsFile, read_metrics


def log(file: MetricsFile, steps: range, **metrics: float) -> None:
    for step in steps:
        file.log_metrics({name: value + step for name, value in metrics.items()}, step)
        file.save()


def test_one_row_a_step_and_columns_that_come_later(tmp_path):
    file = MetricsFile(tmp_path / "exp" / "version_0")
    log(file, range(1, 3), loss=0.5)
    file.log_metrics({"loss": 9.0}, 3)
    file.log_metrics({"val/cosine": 0.25}, 3)
    file.save()
    rows = read_metrics(file.path)
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert rows[0] == {"step": "1", "loss": "1.5", "val/cosine": ""}
    assert rows[2] == {"step": "3", "loss": "9.0", "val/cosine": "0.25"}
    assert (file.name, file.version) == ("exp", "version_0")


def test_a_resumed_run_continues_the_file_and_replaces_repeated_rows(tmp_path):
    log(MetricsFile(tmp_path), range(1, 8), loss=0.0)
    log(MetricsFile(tmp_path), range(5, 10), loss=100.0, extra=0.0)
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [int(row["step"]) for row in rows] == list(range(1, 10))
    assert [float(row["loss"]) for row in rows] == [1, 2, 3, 4, 105, 106, 107, 108, 109]
    assert [row["extra"] for row in rows[:5]] == ["", "", "", "", "5.0"]


def test_a_resumed_run_keeps_the_rows_that_its_checkpoint_knows(tmp_path):
    """Also of two rows of one step only the first, where a validation came after the checkpoint."""
    file = MetricsFile(tmp_path)
    log(file, range(3), loss=0.0)
    known = file.rows
    log(file, range(2, 3), extra=0.0)
    log(file, range(3, 5), loss=0.0)
    resumed = MetricsFile(tmp_path)
    resumed.keep(known)
    assert resumed.rows == known == 3
    log(resumed, range(2, 4), loss=100.0)
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [(row["step"], row["loss"]) for row in rows] == [
        ("0", "0.0"),
        ("1", "1.0"),
        ("2", "2.0"),
        ("2", "102.0"),
        ("3", "103.0"),
    ]
    assert resumed.rows == len(rows)


def test_nothing_logged_writes_nothing(tmp_path):
    MetricsFile(tmp_path).save()
    assert not list(tmp_path.iterdir())
