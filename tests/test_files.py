"""Names of temporary files: short enough for a file system, and known as those of their process."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from eclipse_pl.compbench.generation import write_image
from eclipse_pl.files import LONGEST_NAME, atomic_path, copy_folder, is_being_written, partial_path
from eclipse_pl.prompts.image_files import image_file_name
from eclipse_pl.prompts.prompt import Prompt
from tests.helpers.tiny_scorers import tiny_image


@pytest.mark.parametrize("letter", ["a", "é", "字", "🙂"])
@pytest.mark.parametrize("bytes_of_text", (200, 212, 224, 236, 244))
def test_every_prompt_that_can_name_a_file_can_be_written(tmp_path: Path, letter: str, bytes_of_text: int) -> None:
    text = letter * (bytes_of_text // len(letter.encode()))
    path = tmp_path / image_file_name(Prompt("x/0000", "x", text), 0)
    write_image(path, tiny_image())
    assert [one.name for one in tmp_path.iterdir()] == [f"{text}_000000.png"]


def test_the_longest_host_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "h" * 64)
    for first in range(4):  # a letter of several bytes begins at each place
        path = tmp_path / f"{'a' * first}{'字' * ((LONGEST_NAME - 4 - first) // 3)}.tar"
        partial = partial_path(path)
        assert len(os.fsencode(partial.name)) <= LONGEST_NAME and partial.name.encode().decode() == partial.name
        assert is_being_written(partial) and partial.parent == tmp_path
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"")
        path.unlink()


def test_the_content_is_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_disk: list[tuple[int, int]] = []
    fsync, replace = os.fsync, os.replace

    def note(file: int) -> None:
        fsync(file)
        on_disk.append((os.fstat(file).st_ino, os.fstat(file).st_size))

    def rename(source: Path, target: Path) -> None:
        assert on_disk == [(os.stat(source).st_ino, 7)]
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "replace", rename)
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_bytes(b"content")
    assert (tmp_path / "a").read_bytes() == b"content"


def test_long_names_of_one_process_do_not_collide(tmp_path: Path) -> None:
    one, other = (tmp_path / f"{first}{'a' * 250}.png" for first in "xy")
    assert partial_path(one) != partial_path(other) and partial_path(one) == partial_path(one)


@pytest.mark.parametrize("host", ["node7", "node7.cluster.org"])
@pytest.mark.parametrize("name", ["0000.tar", "0000.tar.json", "0000.tar.pairs.npz", "space.safetensors", "last.ckpt", "a.b"])
def test_what_a_dead_process_of_this_machine_left_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, host: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    own = partial_path(tmp_path / name)
    assert own.name.startswith(f"{name}.node7") and is_being_written(own)
    monkeypatch.setattr(os, "getpid", lambda: 999_999_999)
    dead = partial_path(tmp_path / name)
    assert dead != own and not is_being_written(dead)
    monkeypatch.setattr(socket, "gethostname", lambda: f"other.{host}")
    assert is_being_written(dead), "on another machine the process may live"


def test_short_names_are_readable(tmp_path: Path) -> None:
    name = f"0001.tar.{socket.gethostname().replace('.', '_')}-{os.getpid()}.partial"
    assert partial_path(tmp_path / "0001.tar") == tmp_path / name


def test_a_copy_of_a_folder_has_what_links_lead_to_and_leaves_out_what_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "blob").write_text("weights")
    (tmp_path / "from" / "part" / "prior").mkdir(parents=True)
    (tmp_path / "from" / "prior").mkdir()
    (tmp_path / "from" / "prior" / "big").touch()
    (tmp_path / "from" / "part" / "prior" / "link").symlink_to(tmp_path / "blob")
    copy_folder(tmp_path / "from", tmp_path / "new" / "to", lambda path: path != tmp_path / "from" / "prior")
    (copied,) = (path for path in (tmp_path / "new" / "to").rglob("*") if path.is_file())
    assert copied == tmp_path / "new/to/part/prior/link" and not copied.is_symlink() and copied.read_text() == "weights"


def test_a_folder_is_not_copied_into_itself(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "from")
    with pytest.raises(ValueError, match=r"link, which is copied\. Choose a folder outside of it"):
        copy_folder(tmp_path / "link", tmp_path / "from" / "copy")
    assert not list((tmp_path / "from").iterdir())
