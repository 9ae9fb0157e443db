"""What a user brings along: losses, metrics and models of their own, each known by a text.

A text names it in two ways. ``my_losses.py:MyLoss(margin=0.5)`` and ``my_package.losses:my_loss``
are found by any process that sees the file. A plain name, "mine", stands for an object that was
handed over in Python (:func:`lend`) for as long as the work lasts.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import inspect
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lossmith.core.call import format_call, parse_call, split_list
from lossmith.core.load import LoadError, load_attribute
from lossmith.core.words import did_you_mean

HF = "hf:"  # before the folder of a pretrained encoder, which is data and no code
_lent: ContextVar[Mapping[str, Any]] = ContextVar("lent", default={})  # noqa: B039  # never written


@contextlib.contextmanager
def lend(objects: Mapping[str, Any]) -> Iterator[None]:
    """Let these names stand for these objects."""
    before = _lent.set({**_lent.get(), **objects})
    try:
        yield
    finally:
        _lent.reset(before)


def is_own(text: str) -> bool:
    """Whether a text names something of the user's, and nothing of a registry.

    >>> is_own("my_losses.py:MyLoss(margin=0.5)"), is_own("warp(margin=0.5)")
    (True, False)
    """
    if text.startswith(HF):
        return False
    return text in _lent.get() or ":" in text.partition("(")[0]


def own_text(text: str) -> str:
    """The text in its one form, with the knobs as Python writes them.

    >>> own_text("my_losses.py:MyLoss( margin = .5 )")
    'my_losses.py:MyLoss(margin=0.5)'
    """
    home, bracket, rest = text.partition("(")
    if not bracket:
        return text.strip()
    return home.strip() + format_call("", parse_call(f"knobs({rest}")[1])


@dataclass(frozen=True)
class Own:
    """One thing of the user's; ``value`` is what stands in the file, or what was lent."""

    text: str
    value: Any
    knobs: Mapping[str, object]

    @property
    def home(self) -> str:
        """The text without its knobs, as ``lossmith check`` takes it."""
        return self.text.partition("(")[0]

    def made(self) -> Any:
        """Something to call: of a class a new object, of an object a copy, of a function itself.

        Each training has its own, so that what one leaves in an object does not reach the next.
        """
        if inspect.isclass(self.value):
            self._check_knobs(self.value)
            try:
                return self.value(**self.knobs)
            except Exception as error:  # whatever a constructor of the user's raises
                reason = f"{type(error).__name__}: {error}"
                raise ValueError(f"{self.text} cannot be made: {reason}") from error
        if inspect.isroutine(self.value) or isinstance(self.value, functools.partial):
            self._check_knobs(self.value)
            return functools.partial(self.value, **self.knobs) if self.knobs else self.value
        if self.knobs:
            raise ValueError(f"{self.home} is made already, and takes no {', '.join(self.knobs)}.")
        return copy.deepcopy(self.value)

    def _check_knobs(self, function: Any) -> None:
        parameters = parameters_of(function)
        if not parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return
        for name in self.knobs:
            if name not in parameters:
                raise ValueError(
                    f"{self.home} has no argument {name!r}.{did_you_mean(name, parameters)}"
                )
        # What a class is made with, it has to be given here; a function gets the batch later.
        needed = [n for n, p in parameters.items() if p.default is p.empty and n not in self.knobs]
        needed = [
            n for n in needed if parameters[n].kind not in (inspect.Parameter.VAR_POSITIONAL,)
        ]
        if inspect.isclass(function) and needed:
            raise ValueError(f"{self.home} needs {needed[0]}: write {self.home}({needed[0]}=...).")


def own(text: str) -> Own:
    """What a text names; :class:`LoadError` says why it cannot be found."""
    if text in _lent.get():
        return Own(text, _lent.get()[text], {})
    home, bracket, rest = text.partition("(")
    try:
        knobs = parse_call(f"knobs({rest}")[1] if bracket else {}
    except ValueError as error:
        raise LoadError(f"{text!r} does not read as {home}(knob=value, ...): {error}") from None
    return Own(text, load_attribute(home), knobs)


def parameters_of(function: Any) -> Mapping[str, inspect.Parameter]:
    """The arguments of something that can be called, as far as Python can tell."""
    target = function
    if not inspect.isclass(target) and hasattr(target, "forward"):
        target = target.forward
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):
        return {}


def what_failed(error: BaseException) -> str:
    """An error of the user's code in a line, with the place in a file of theirs."""
    text = f"{type(error).__name__}: {error}".strip().rstrip(":")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if _is_theirs(path):
            return f"{text} ({path.name}:{frame.lineno}: {frame.line})"
    return text


def written_at(*values: Any) -> str:
    """Where the first of these that stands in a file of the user's does: " (my.py:12)"."""
    for value in values:
        try:
            path, line = inspect.getsourcefile(value), inspect.getsourcelines(value)[1]
        except (OSError, TypeError):  # made in a notebook, or no code at all
            continue
        if path and _is_theirs(Path(path)):
            return f" ({Path(path).name}:{line})"
    return ""


def _is_theirs(path: Path) -> bool:
    ours = Path(__file__).resolve().parents[1]
    return path.is_file() and ours not in path.parents and "site-packages" not in path.parts


def code_digest(text: str) -> str:
    """A short hash of the code that a text names: another one means other numbers.

    It covers the file, and the files beside and below it from which it imports; of an object made
    in a script or a notebook its own lines, and of any object the values that it holds.
    """
    found = own(text)
    digest = hashlib.sha256()
    files = _files_of(found.value)
    if not files:
        digest.update(_lines(found.value))
    for path in files:
        digest.update(path.read_bytes())
    if text in _lent.get() and not inspect.isclass(found.value):
        digest.update(_held(found.value))
    return digest.hexdigest()[:12]


def where(text: str) -> str:
    """The files whose content :func:`digest_of` hashes, in words."""
    if text.startswith(HF):
        return text.removeprefix(HF)
    home = text.partition("(")[0].rpartition(":")[0]
    file = Path(home).resolve()
    others = [path.name for path in _files_of(own(text).value) if path != file]
    if not home.endswith(".py") or not others:
        return home
    return f"{home} (or {' or '.join(others)}, which it imports)"


def own_texts(loss: str, settings: Mapping[str, Any]) -> list[str]:
    """Everything that a training with these has of the user's: code, and pretrained encoders.

    >>> own_texts("my.py:loss", {"model": "hf:encoder", "metrics": "accuracy,my.py:share"})
    ['my.py:loss', 'hf:encoder', 'my.py:share']
    """
    metrics = (t for name in ("metric", "metrics") for t in split_list(settings.get(name) or ""))
    listed = [loss, str(settings.get("model")), *metrics]
    return [text for text in dict.fromkeys(listed) if is_own(text) or text.startswith(HF)]


def digest_of(text: str) -> str:
    """A short hash of the code that a text names, or of the folder of a pretrained encoder."""
    if text.startswith(HF):
        return folder_digest(Path(text.removeprefix(HF)).expanduser())
    return code_digest(text)


def folder_digest(folder: Path) -> str:
    """A short hash of every file below a folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as file:
            for chunk in iter(lambda: file.read(1 << 20), b""):
                digest.update(chunk)
    return digest.hexdigest()[:12]


def _module_name(value: Any) -> str:
    if isinstance(value, functools.partial):
        value = value.func
    named = value if hasattr(value, "__qualname__") else type(value)
    return str(getattr(named, "__module__", ""))


def _files_of(value: Any) -> list[Path]:
    """The files that say what an object is; none where it was made in a script or a notebook."""
    module = sys.modules.get(_module_name(value))
    if module is None or module.__name__ == "__main__" or _file_of(module) is None:
        return []
    return sorted(_files(module))


def _file_of(module: ModuleType) -> Path | None:
    name = getattr(module, "__file__", None)
    return Path(name).resolve() if name and Path(name).is_file() else None


def _files(module: ModuleType) -> set[Path]:
    """The file of a module, and those in its folder or package that it takes something from."""
    start = _file_of(module)
    assert start is not None
    # The folder of the outermost package, or the folder of a file that stands alone.
    folder = start.parents[module.__name__.count(".")] if "." in module.__name__ else start.parent
    seen, waiting = set[Path](), [module]
    while waiting:
        one = waiting.pop()
        path = _file_of(one)
        inside = path is not None and folder in path.parents and "site-packages" not in path.parts
        if path is None or path in seen or not (inside or path == start):
            continue
        seen.add(path)
        for value in vars(one).values():
            name = value.__name__ if isinstance(value, ModuleType) else _module_name(value)
            if name in sys.modules:
                waiting.append(sys.modules[name])
    return seen


def _lines(value: Any) -> bytes:
    """The source of an object, or what was compiled from it."""
    value = value.func if isinstance(value, functools.partial) else value
    value = value if hasattr(value, "__qualname__") else type(value)
    try:
        return inspect.getsource(value).encode()
    except (OSError, TypeError):
        code = getattr(value, "__code__", None)
        return b"" if code is None else code.co_code + repr(code.co_consts).encode()


def _held(value: Any) -> bytes:
    """The values that an object holds, or a function has closed over."""
    if isinstance(value, functools.partial):
        given = [*value.args, *(part for item in sorted(value.keywords.items()) for part in item)]
        return b"".join(map(_one, given)) + _held(value.func)
    if inspect.isroutine(value):
        cells = getattr(value, "__closure__", None) or ()
        return b"".join(_one(cell.cell_contents) for cell in cells)
    parts = [_content(value)]
    if hasattr(value, "modules"):
        parts += [_content(part) for part in value.modules()]
    return b"".join(parts)


def _one(value: Any) -> bytes:
    """One value, in a form that does not tell where in memory it lies."""
    return _lines(value) if callable(value) else repr(value).encode()


def _content(value: Any) -> bytes:
    held = dict(getattr(value, "__dict__", {}))
    plain = {k: v for k, v in held.items() if isinstance(v, (bool, int, float, str, tuple))}
    tensors = {**held.get("_parameters", {}), **held.get("_buffers", {}), **held}
    found = [
        (name, tensor.detach().cpu().tolist())
        for name, tensor in tensors.items()
        if hasattr(tensor, "detach")
    ]
    return repr((sorted(plain.items(), key=str), found)).encode()
