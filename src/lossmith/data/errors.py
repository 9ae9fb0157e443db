"""The one error of the readers: where it is, what it is, what was expected, what to do."""

from __future__ import annotations

from pathlib import Path


class DataError(ValueError):
    """Data that cannot be used, with the place and the remedy.

    ``line`` counts from 1 with the header as line 1; ``row`` counts from 1 and stands in where a
    format has no lines (Parquet).

    >>> print(DataError("'maybe' is not a label", path="train.csv", line=12, column="spam",
    ...                 value="maybe", expected="1, 0 or blank", fix="Correct it."))
    train.csv:12, column 'spam': 'maybe' is not a label; expected 1, 0 or blank. Correct it.
    """

    def __init__(
        self,
        problem: str,
        *,
        path: str | Path | None = None,
        line: int | None = None,
        row: int | None = None,
        column: str | None = None,
        value: object = None,
        expected: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.problem = problem
        self.path = None if path is None else str(path)
        self.line = line
        self.row = row
        self.column = column
        self.value = value
        self.expected = expected
        self.fix = fix
        super().__init__(self._message())

    def _message(self) -> str:
        where = self.path or ""
        if self.line is not None:
            where += f":{self.line}"
        elif self.row is not None:
            where += f", row {self.row}"
        if self.column is not None:
            where += f"{', ' if where else ''}column {self.column!r}"
        message = f"{where}: {self.problem}" if where else self.problem
        if self.expected:
            message += f"; expected {self.expected}"
        message += "."
        return f"{message} {self.fix}" if self.fix else message

    def __reduce__(self) -> tuple[object, ...]:
        # The default would call the class with the finished message and lose the fields, so an
        # error raised in a worker process would arrive without its place.
        return (_rebuild, (self.problem, {k: v for k, v in vars(self).items() if k != "problem"}))


def _rebuild(problem: str, fields: dict[str, object]) -> DataError:
    return DataError(problem, **fields)  # type: ignore[arg-type]  # the fields it was made with


def listed(names: list[str] | tuple[str, ...], limit: int = 8) -> str:
    """The first names, quoted, and how many more there are.

    >>> listed(["a", "b", "c"], limit=2)
    "'a', 'b' and 1 more"
    """
    shown = ", ".join(
        repr(name if len(name) <= 40 else name[:37] + "...") for name in names[:limit]
    )
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit:,} more"
