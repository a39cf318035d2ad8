"""The samples of a webdataset tar, and an error where webdataset's own reader would take a broken tar for a shorter one."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator


class BrokenSourceError(ValueError):
    """A source tar that cannot be read to its end, or that says something which cannot be right."""


def read_samples(source: str) -> Iterator[tuple[int, str, dict[str, bytes]]]:
    """The samples of a webdataset tar: (bytes of the tar read so far, key, {suffix: content}).

    BrokenSourceError where it cannot be read to its end. webdataset's own reader takes a tar that was cut between two
    files, or that has a damaged header, for a shorter tar; here such a source is an error.
    """
    from webdataset.gopen import gopen
    from webdataset.tariterators import group_by_keys

    position = 0

    def files() -> Iterator[dict[str, str | bytes]]:
        nonlocal position
        with gopen(source) as stream, tarfile.open(fileobj=stream, mode="r|*", tarinfo=_StrictHeader) as tar:
            while (member := tar.next()) is not None:
                content = tar.extractfile(member) if member.isreg() else None
                if content is not None and not member.name.startswith("__"):  # webdataset's own remarks on a tar
                    yield {"fname": member.name, "data": content.read(), "__url__": source}
                position = tar.offset
                tar.members.clear()  # type: ignore[attr-defined]  # a stream never goes back, and a million headers are not small

    try:
        for sample in group_by_keys(files()):
            key = sample.pop("__key__")
            yield position, key, {suffix: content for suffix, content in sample.items() if not suffix.startswith("__")}
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as error:
        reason = error if isinstance(error, OSError) else error.args[0] if error.args else type(error).__name__
        raise BrokenSourceError(f"{reason}, after {position} bytes") from error


class _StrictHeader(tarfile.TarInfo):
    """A tar ends with a block of zeros and nothing else."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> _StrictHeader:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the block of zeros
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"the tar is cut off or damaged ({error})") from error
