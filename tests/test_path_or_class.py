"""Options that take a path or a class, such as ``--source``, through the front door."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_prep.__main__ import main
from eclipse_pl.__main__ import main as command
from eclipse_pl.command_line import call
from eclipse_pl.data.manifest import Manifest
from eclipse_pl.raw.find_sources import HUB
from eclipse_pl.raw.hugging_face import HuggingFace
from eclipse_pl.raw.image import ImageReader
from eclipse_pl.raw.image_folder import ImageFolder
from eclipse_pl.raw.real_pairs import read_images
from eclipse_pl.raw.source import Source
from eclipse_pl.raw.table import Table
from eclipse_pl.raw.tars import Tars
from eclipse_pl.usage_error import config_files
from tests.helpers.raw_sets import sample, write_images, write_tar

KINDS = ("pairs.csv", "pairs.tsv", "pairs.jsonl", "pairs.parquet", "captions_all.json", "raw.tar", "photos")


@pytest.fixture
def encoder(clip_folder: Path) -> list[str]:
    return ["--encoder.model", f"local-dir:{clip_folder}", "--encoder.pretrained", "null", "--workers", "0"]


def write(folder: Path, name: str, image: str = "image", caption: str = "caption") -> Path:
    """The same three pairs as any kind of source."""
    path = folder / name
    numbers = range(3)
    write_images(folder, numbers)
    rows: list[dict[str, Any]] = [{image: f"{number}.png", caption: f"a caption {number}"} for number in numbers]
    if path.suffix in (".csv", ".tsv"):
        mark = "," if path.suffix == ".csv" else "\t"
        path.write_text("".join(f"{mark.join(cells)}\n" for cells in [[image, caption], *(row.values() for row in rows)]))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        pytest.importorskip("pyarrow.parquet").write_table(pytest.importorskip("pyarrow").Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        images = [{"id": number, "file_name": f"{number}.png"} for number in numbers]
        captions = [{"image_id": number, "caption": f"a caption {number}"} for number in numbers]
        path.write_text(json.dumps({"images": images, "annotations": captions}))
    elif path.suffix == ".tar":
        write_tar(path, {str(number): sample(number) for number in numbers})
    else:
        write_images(path, numbers)
        for number in numbers:
            (path / f"{number}.txt").write_text(f"a caption {number}")
    return path


def source_of(words: list[str]) -> Any:
    def taken(source: Source | str | list[str] | None = None) -> Any:
        return source

    return call(taken, words, "taken")


@pytest.mark.long
@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_source_by_its_path_alone(name: str, tmp_path: Path, encoder: list[str], capsys: Any) -> None:
    source = str(write(tmp_path, name))
    assert main(["embed", "--source", source, "--out", f"{tmp_path}/set", *encoder]) == 0, capsys.readouterr().err
    made = Manifest.load(tmp_path / "set")
    assert made.pairs == 3 and made.sources == [source]


def test_a_path_is_not_read_for_its_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("pairs.csv", "other.csv", "a.tar", "a.json", "photos"):
        write(tmp_path, name)
    (tmp_path / "a list.txt").write_text("pairs.csv\nother.csv\n")
    (tmp_path / "pairs.py").write_text("raise SystemExit('it was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("pairs.csv", "a.tar", "a.json", "a list.txt", str(tmp_path / "pairs.csv")):
        assert source_of(["--source", name]) == source_of([f"--source={name}"]) == [name]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert source_of(["--source", "~/pairs.csv"]) == ["~/pairs.csv"]
    assert source_of(["--source+", "pairs.csv", "--source+", "other.csv"]) == ["pairs.csv", "other.csv"]
    assert source_of(["--source", "photos"]) == "photos" and source_of(["--source", "*.tar"]) == "*.tar"
    (tmp_path / "exp.yaml").write_text("source: pairs.csv\n")
    assert source_of(["--config", "exp.yaml"]) == ["pairs.csv"]
    (tmp_path / "captions.json").write_text(" " * (1 << 20) + "{}")
    assert config_files(["--source", "captions.json", "exp.yaml"]) == [Path("exp.yaml")]


def test_yaml_gives_a_class_or_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "part.yaml").write_text("class_path: eclipse_pl.raw.table.Table\ninit_args: {path: pairs.csv}\n")
    (tmp_path / "list.yml").write_text("[a.csv, b.csv]")
    (tmp_path / "exp.yaml").write_text("source: part.yaml\n")
    table = Table("pairs.csv")
    assert source_of(["--source", "part.yaml"]) == source_of(["--config", "exp.yaml"]) == table
    assert source_of(["--source", "part.yaml", "--source.caption", "alt"]) == Table("pairs.csv", caption="alt")
    assert source_of(["--source", '{"class_path": "Table", "init_args": {"path": "pairs.csv"}}']) == table
    assert source_of(["--source", "Table", "--source.path", "pairs.csv"]) == table
    assert source_of(["--source", "list.yml"]) == ["a.csv", "b.csv"] and source_of(["--source", "null"]) is None


def test_the_demo_takes_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def load_model(*parts: Any) -> None:
        raise ValueError(f"the images are {parts[6]}")

    monkeypatch.setattr("eclipse_pl.demo.command.load_model", load_model)
    monkeypatch.setattr("eclipse_pl.demo.command.require_gradio", lambda: None)
    monkeypatch.setattr("eclipse_pl.demo.command.require_port", lambda *place: None)
    path = write(tmp_path, "pairs.csv")
    assert command(["demo", "--prior", "x", "--images", str(path)]) == 2
    assert capsys.readouterr().err == f"error: the images are ['{path}']\n"


# ---- options of the class that reads a path


@pytest.mark.long
def test_the_remedies_of_messages(tmp_path: Path, encoder: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "pairs.csv", image="photo", caption="alt")
    write(tmp_path, "captions_all.json")
    (tmp_path / "images").mkdir()
    for path in tmp_path.glob("*.png"):
        path.rename(tmp_path / "images" / path.name)
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    for source, steps in {
        "pairs.csv": (
            ("one of image, image_path", ["--source.image", "photo"]),
            ("Name it with --source.caption COLUMN", ["--source.caption=alt"]),
            ("another folder is given as --source.folder FOLDER", ["--source.folder", f"{tmp_path}/elsewhere"]),
        ),
        "captions_all.json": (("--source.images PATH", ["--source.images", f"{tmp_path}/elsewhere"]),),
    }.items():
        words = ["embed", "--out", f"{tmp_path}/{source}.set", "--source", f"{tmp_path}/{source}"]
        for said, remedy in steps:
            assert main([*words, *encoder]) == 2
            assert said in capsys.readouterr().err
            words += remedy
        assert main([*words, *encoder]) == 0, capsys.readouterr().err
        made = Manifest.load(f"{tmp_path}/{source}.set")
        assert made.pairs == 3 and f"--source {tmp_path}/{source} --source." in made.made_by


def test_options_after_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("pairs.csv", "other.csv", "photos", "raw.tar"):
        write(tmp_path, name)
    (tmp_path / "exp.yaml").write_text("source: pairs.csv\n")
    alt = ["--source.caption", "alt", "--source.init_args.image=photo"]
    expected = Table("pairs.csv", caption="alt", image="photo")
    for words in (["--source", "pairs.csv"], ["--source=pairs.csv"], ["--source", '["pairs.csv"]'], ["--config", "exp.yaml"]):
        assert source_of([*words, *alt]) == expected
    assert source_of(["--source", "photos", "--source.shard_images", "2"]) == ImageFolder("photos", 2)
    tars = source_of(["--source", "Tars", "--source.tars", f"{tmp_path}/*.tar"])
    assert tars == Tars(f"{tmp_path}/*.tar") and list(tars.listing().parts) == ["raw.tar"]
    assert source_of(["--source", f"{HUB}o/n", "--source.split", "val"]) == HuggingFace("o/n", split="val")
    for words, said in (
        (["pairs.csv", "--source.captoin", "alt"], "source of Table: Option 'captoin' is not accepted; near it: caption."),
        (["*.tar", "--source.caption", "alt"], "source of Tars: Option 'caption' is not accepted."),
        (["Tabel", "--source.path", "pairs.csv"], "source: there is no class Tabel"),
    ):
        with pytest.raises(SystemExit):
            source_of(["--source", *words])
        assert said in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"^There is no source none\.csv\."):
        source_of(["--source", "none.csv", *alt])
    with pytest.raises(ValueError, match=r"--source.caption is an option of one path, and --source names 2: pairs.csv, oth"):
        source_of(["--source", '["pairs.csv", "other.csv"]', *alt])


def test_a_message_names_the_option_of_its_command(tmp_path: Path) -> None:
    table = write(tmp_path, "pairs.csv", image="image", caption="alt")
    with pytest.raises(ValueError, match=r"Name it with --images\.caption COLUMN\. Give the source"):
        read_images([str(table)], [], ImageReader())
