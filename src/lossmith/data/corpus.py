"""The standard library of the running Python as a corpus, and a cache for what is made of it."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import os
import platform
import sysconfig
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import polars as pl

from lossmith.data.errors import DataError
from lossmith.data.progress import track

# Installed packages differ from machine to machine, tests repeat what they test, and the build's
# own settings are tables.
SKIPPED_FOLDERS = ("site-packages", "dist-packages", "__pycache__", "lib-dynload")


@dataclass(frozen=True)
class Source:
    """One file of the standard library: its place in it (``json/decoder.py``) and its bytes."""

    place: str
    content: bytes

    def tree(self) -> ast.Module | None:
        """The parsed file, or None for the few that are not meant to parse."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in strings are not our concern
            try:
                return ast.parse(self.content)
            except (SyntaxError, ValueError):
                return None


def standard_library(folder: Path | None = None) -> list[Source]:
    """The files of the standard library, by name; tests and installed packages left out."""
    folder = Path(sysconfig.get_paths()["stdlib"]) if folder is None else folder
    places = sorted(file.relative_to(folder).as_posix() for file in _python_files(folder))
    sources = [Source(place, (folder / place).read_bytes()) for place in places if _wanted(place)]
    if not sources:
        raise DataError(
            "the standard library of this Python has no source files",
            path=folder,
            expected="json/decoder.py and its like there",
            fix="Use a Python that is installed with its sources, or give data of your own.",
        )
    return sources


def _python_files(folder: Path) -> Iterator[Path]:
    # Installed packages can be a hundred times the standard library, so they are not even listed.
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
        yield from (Path(root) / name for name in files if name.endswith(".py"))


def _wanted(place: str) -> bool:
    path = PurePosixPath(place)
    if path.name.startswith("_sysconfigdata") or path.parts[0].startswith("config-"):
        return False
    return not any(part.startswith(("test", "idle_test")) for part in path.parts)


def content_hash(sources: Sequence[Source], *makers: str) -> str:
    """12 hexadecimal digits for these sources and for the code (files) that works on them."""
    digest = hashlib.sha256()
    for maker in makers:
        # A zip import has no file to read; the version then has to do.
        if Path(maker).is_file():
            digest.update(Path(maker).read_bytes())
    for source in sources:
        for part in (source.place.encode(), source.content):
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
    return digest.hexdigest()[:12]


def cache_folder() -> Path:
    """``$LOSSMITH_CACHE``, or ``lossmith`` in ``$XDG_CACHE_HOME``, or in ``~/.cache``."""
    own = os.environ.get("LOSSMITH_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "lossmith"


def cached_corpus(
    family: str,
    build: Callable[[Iterator[Source]], pl.DataFrame],
    *,
    makers: Sequence[str | None],
    show: bool | None,
) -> pl.DataFrame:
    """What ``build`` makes of the standard library: from the cache, or built and put there.

    ``makers`` are the files with the code of ``build``: another code has another cache.
    """
    sources = standard_library()
    digest = content_hash(sources, __file__, *(maker or "" for maker in makers))
    name = f"embedded-{family}-python{platform.python_version()}-{digest}.parquet"
    file = cache_folder() / name
    with contextlib.suppress(OSError, pl.exceptions.PolarsError):  # absent or damaged: build it
        return pl.read_parquet(file)
    progress = track(sources, "Reading the standard library", show=show)
    # The cache saves seconds; a folder that cannot be written must not cost the run.
    frame = build(progress)
    with contextlib.suppress(OSError):
        write_atomically(frame, file)
    return frame


def write_atomically(frame: pl.DataFrame, file: Path) -> None:
    """Write beside the file and move it there, so that a reader sees all of it or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            frame.write_parquet(stream)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
