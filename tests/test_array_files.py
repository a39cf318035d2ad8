"""Arrays in files of other programs: read where that is simple and safe, else named for what they are."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from data_prep.array_files import embeddings
from data_prep.import_embeddings import import_embeddings

ARRAY = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
TEXTS = np.array(["a", "b", "c", "d"])


def npy_bytes(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def torch_bytes() -> bytes:
    file = io.BytesIO()
    torch.save(torch.from_numpy(ARRAY), file)
    return file.getvalue()


def zip_bytes(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"x")  # of 1980: workers must collect tests of equal names
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (torch_bytes(), r"is PyTorch by its first bytes.*a pickle.*torch.load\('OLD.pt', weights_only=True\)"),
        (pickle.dumps(ARRAY), "is pickle by its first bytes.*can run code"),
        (gzip.compress(npy_bytes(ARRAY), mtime=0), "is gzip by its first bytes.*Unpack it first"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), r"is HDF5 by its first bytes.*h5py.File"),
        (b"1.0,2.0\n3.0,4.0\n", r"is text by its first bytes.*numpy.loadtxt"),
        (b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(90), r"is MATLAB by its first bytes.*scipy.io.loadmat"),
        (b"ARROW1\0\0" + bytes(90), r"is Arrow IPC \(Feather\) by its first bytes.*read_feather"),
        (zip_bytes("[Content_Types].xml"), r"is Excel \(xlsx\) by its first bytes"),
        (zip_bytes("a.csv"), "is zip by its first bytes"),
        (b"PK\x03\x04 cut off", "is damaged zip by its first bytes.*copy it again"),
        (b"\x28\xb5\x2f\xfd" + bytes(90), "is Zstandard by its first bytes"),
        (bytes(range(7)), "is of an unknown format, and only npy, npz, safetensors and Parquet are read"),
        (b"", "is of an unknown format"),
        (npy_bytes(ARRAY)[:-9], "is damaged or was cut off"),
        (b"PAR1" + bytes(50), "cannot be read as Parquet"),
        (b"\x20\0\0\0\0\0\0\0{" + bytes(50), "cannot be read as safetensors"),
    ],
)
@pytest.mark.parametrize("name", ["x.npy", "x.bin"])
def test_other_formats_are_named(tmp_path: Path, content: bytes, match: str, name: str) -> None:
    """By their content, whatever they are called; nothing that is no pickle is called one."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=match) as caught:
        embeddings(str(tmp_path / name), "image_embed")
    assert ("pickle" in str(caught.value)) == (b"pkl" in content or content.startswith(b"\x80"))


def test_files_of_one_array(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    np.save(tmp_path / "a.npy", ARRAY)
    np.savez_compressed(tmp_path / "a.npz", image_embed=ARRAY, other=ARRAY[:2])
    save_file({"image_embed": torch.from_numpy(ARRAY), "other": torch.zeros(2)}, tmp_path / "a.safetensors")
    save_file({"x": torch.from_numpy(ARRAY)}, tmp_path / "one.safetensors")
    lists = pa.array(list(ARRAY))
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(ARRAY.ravel()), 3)
    parquet.write_table(pa.table({"image_embed": lists, "caption": list(TEXTS)}), tmp_path / "a.parquet", row_group_size=3)
    parquet.write_table(pa.table({"image_embed": fixed}), tmp_path / "fixed.parquet")
    for name in ("a.npy", "a.npz", "a.safetensors", "one.safetensors", "a.parquet", "fixed.parquet"):
        np.testing.assert_array_equal(embeddings(str(tmp_path / name), "image_embed"), ARRAY)
    save_file({"image_embed": torch.from_numpy(ARRAY).bfloat16()}, tmp_path / "b.safetensors")
    np.testing.assert_allclose(embeddings(str(tmp_path / "b.safetensors"), "image_embed"), ARRAY, atol=0.02)


def test_several_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", img=ARRAY, txt=ARRAY)
    with pytest.raises(ValueError, match=r"a.npz holds several arrays \(img, txt\) and none is called 'image_embed'"):
        embeddings(str(tmp_path / "a.npz"), "image_embed")
    with pytest.raises(ValueError, match="is a folder, not a file of arrays"):
        embeddings(str(tmp_path), "image_embed")


def test_ragged_lists_are_no_embeddings(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for name, rows in (("ragged", [[1.0, 2.0], [3.0]]), ("null", [[1.0, 2.0], None]), ("numbers", [1.0, 2.0])):
        parquet.write_table(pa.table({"image_embed": rows}), tmp_path / f"{name}.parquet")
        with pytest.raises(ValueError, match="holds no embeddings: every row must have a list of numbers"):
            embeddings(str(tmp_path / f"{name}.parquet"), "image_embed")


def test_everything_in_one_parquet_file(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = {"image_embed": list(ARRAY), "text_embed": list(-ARRAY), "caption": list(TEXTS), "image_id": [3, 1, 4, 9]}
    parquet.write_table(pa.table(table), tmp_path / "a.parquet")
    assert import_embeddings(str(tmp_path / "set"), arrays=str(tmp_path / "a.parquet")).pairs == 4


def test_arrays_without_dimensions(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image_embed=np.float32(3), text_embed=ARRAY, caption=TEXTS, image_id=np.arange(4))
    with pytest.raises(ValueError, match=r"image embeddings are float32 of shape \(\); they must be floats, a row a pair"):
        import_embeddings(str(tmp_path / "set"), arrays=str(tmp_path / "a.npz"))
