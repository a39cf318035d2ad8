"""Read the files of a source tar, plain or packed, local or streamed, to its last byte."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from eclipse_pl.raw.remote_file import RemoteFile
from eclipse_pl.raw.source import BrokenSourceError

MOST_BYTES = 1 << 28
"""Most bytes of one file. A larger file is no image or caption, and is not read."""
_MOST_HEADER_BYTES = 1 << 20
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x5d\0\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_CURL = {
    3: "no URL is written so; a blank in one is written %20",
    6: "there is no such host",
    7: "no connection",
    22: "the server answers with an error",
    28: "it took too long",
}


class TarFile(NamedTuple):
    """One member of a tar."""

    name: str
    """Bytes that are not UTF-8 become lone surrogates."""
    is_folder: bool
    content: bytes | None
    unread: str
    """Reason for missing content, such as "a link"."""


class TarFiles:
    """Iterates over the members of a tar. Bytes after its end mark are another tar, as in `cat a.tar b.tar`.

    It raises BrokenSourceError where the source cannot be read to its end. webdataset's reader instead treats a tar that was
    cut between two files, or that has a damaged header, as a shorter tar.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.position = 0
        """Bytes of the source read so far."""
        self.digest = hashlib.sha256()
        """Hash of these bytes."""

    def __iter__(self) -> Iterator[TarFile]:
        offset = 0
        try:
            with _opened(self.source) as stream:
                raw = _Counted(stream, self)
                unpacked = _unpacked(io.BufferedReader(raw, 1 << 18))
                with _StrictTar.open(fileobj=unpacked, mode="r|", ignore_zeros=True, encoding="utf-8") as tar:
                    while (member := tar.next()) is not None:
                        yield _read(tar, member)
                        offset = tar.offset
                        tar.members.clear()  # type: ignore[attr-defined]  # they are not needed again and fill the memory
        except (tarfile.TarError, OSError, EOFError, ValueError, RecursionError, zlib.error, lzma.LZMAError) as error:
            reason = error if isinstance(error, OSError) else error.args[0] if error.args else type(error).__name__
            raise BrokenSourceError(f"{reason}, after {offset} bytes") from error


def source_sha256(source: str) -> str:
    """Hash the source's bytes.

    Raises:
        BrokenSourceError: They cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with _opened(source) as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise BrokenSourceError(str(error)) from error
    return digest.hexdigest()


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> TarFile:
    unread = ""
    if member.islnk() or member.issym():
        unread = "a link"
    elif not member.isreg():
        unread = "no file"
    elif member.size > MOST_BYTES:
        unread = f"larger than {MOST_BYTES >> 20} MiB"
    file = None if unread else tar.extractfile(member)
    return TarFile(member.name, member.isdir(), file.read() if file else None, unread)


@contextmanager
def _opened(source: str) -> Iterator[Any]:
    """Open a source for reading. OSError describes a failed command of a stream."""
    from webdataset.gopen import Pipe, gopen, gopen_schemes

    if Path(source).is_file():
        with open(source, "rb") as file:
            yield file
        return
    if source.partition(":")[0] not in gopen_schemes:
        with RemoteFile(source) as file:
            yield file
        return
    stream = gopen(source)
    try:
        with stream:
            yield stream
    except OSError as error:
        if not isinstance(stream, Pipe) or not stream.status:
            raise
        shell = source.startswith("pipe:")
        reason = f" ({_CURL[stream.status]})" if not shell and stream.status in _CURL else ""
        called = stream.proc.args  # a text of webdataset 0.2, a list of 1.0
        command = "its command" if shell else (called.split() if isinstance(called, str) else called)[0]
        raise OSError(f"{command} ended with exit code {stream.status}{reason}") from error


class _Counted(io.RawIOBase):
    """Reads a stream and updates the number and the hash of its bytes."""

    def __init__(self, stream: Any, files: TarFiles) -> None:
        self.stream, self.files = stream, files

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self.stream.read(len(buffer))
        buffer[: len(block)] = block
        self.files.position += len(block)
        self.files.digest.update(block)
        return len(block)


def _unpacked(stream: io.BufferedReader) -> Any:
    """Unpack a stream. Unlike tarfile's streams, it also reads the second file of `cat a.tar.gz b.tar.gz`."""
    start = stream.peek(6)[:6]
    packed = next((name for magic, name in _PACKED.items() if start.startswith(magic)), None)
    if packed == "gzip":
        return gzip.GzipFile(fileobj=stream)
    if packed == "bzip2":
        return bz2.BZ2File(stream)
    if packed == "xz":
        return lzma.LZMAFile(stream)
    return _zstd(stream) if packed == "zstd" else stream


def _zstd(stream: io.BufferedReader) -> Any:
    try:
        from zstandard import ZstdDecompressor
    except ImportError:
        raise ValueError(
            "it is packed by zstd, which needs the package zstandard: `pip install zstandard`, or unpack it with `unzstd`"
        ) from None
    return _Zstd(stream, ZstdDecompressor())


class _Zstd:
    """Unpacks zstd. Unlike zstandard's reader, it raises an error for truncated data. ``read`` may return fewer bytes."""

    def __init__(self, stream: io.BufferedReader, zstd: Any) -> None:
        self._blocks = self._unpacked(stream, zstd)

    def read(self, size: int) -> bytes:
        return next((block for block in self._blocks if block), b"")

    @staticmethod
    def _unpacked(stream: io.BufferedReader, zstd: Any) -> Iterator[bytes]:
        frame, rest = zstd.decompressobj(), b""
        while packed := rest or stream.read(4096):  # a small block, because it may unpack to a thousand times its size
            frame = zstd.decompressobj() if frame.eof else frame
            try:
                unpacked = frame.decompress(packed)
            except Exception as error:  # ZstdError has no other base class
                raise tarfile.ReadError(f"the data packed by zstd are damaged ({error})") from error
            yield unpacked
            rest = frame.unused_data if frame.eof else b""
        if not frame.eof:
            raise EOFError("the data packed by zstd are cut off")


class _StrictHeader(tarfile.TarInfo):
    """A header. After the block of zeros at the end of a tar follow nothing, more zeros, or another tar's first header."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _StrictHeader:
        header = super().frombuf(buf if any(buf) else bytes(len(buf) // 512 * 512), encoding, errors)  # a cut padding is none
        if header.size < 0 or (header.type in b"gxXLK" and header.size > _MOST_HEADER_BYTES):
            raise tarfile.ReadError(f"the tar is damaged (a header of {header.size} bytes)")
        return header

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> _StrictHeader:
        assert isinstance(tarfile_, _StrictTar)
        try:
            header = super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the block of zeros
            tarfile_.has_ended = True
            raise
        except tarfile.HeaderError as error:
            if isinstance(error, tarfile.EmptyHeaderError) and tarfile_.has_ended:  # type: ignore[attr-defined]  # nothing more
                raise
            if tarfile_.has_ended:
                raise tarfile.ReadError(f"the bytes after the tar's end mark are not another tar ({error})") from error
            if tarfile_.offset == 0:
                raise tarfile.ReadError(f"it is not a tar ({error})") from error
            raise tarfile.ReadError(f"the tar is cut off or damaged ({error})") from error
        tarfile_.has_ended = False
        return header


class _StrictTar(tarfile.TarFile):
    tarinfo = _StrictHeader
    has_ended = False
    """Whether the last block was the end mark."""
