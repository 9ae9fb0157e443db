"""What the command line asks of the runner."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import chosen, effort, parser, with_sizes
from benchmarks.case import Case, Contender
from benchmarks.measure import FULL, QUICK

SIZES = ({"B": 1, "d": 2}, {"B": 4, "d": 2}, {"B": 4, "d": 8})
CASE = Case("a row", "fast", lambda size: {}, {"lossmith": Contender(lambda x: 0)}, SIZES)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [([], SIZES), (["B=4"], SIZES[1:]), (["d=8", "B=1"], SIZES[::2]), (["B=9"], ())],
)
def test_sizes_are_chosen_by_a_value_that_they_have(
    wanted: list[str], found: tuple[dict[str, int], ...]
) -> None:
    assert with_sizes(CASE, wanted).sizes == found


def test_seconds_shorten_a_run_to_three_rounds_at_the_least() -> None:
    assert effort(parser().parse_args([])) == FULL
    assert effort(parser().parse_args(["--quick"])) == QUICK
    asked = effort(parser().parse_args(["--seconds", "4"]))
    assert (asked.seconds, asked.least, asked.most) == (4.0, 3, FULL.most)
    assert effort(parser().parse_args(["--seconds", "4", "--least", "1"])).least == 1


def test_a_row_that_does_not_exist_is_answered_with_those_that_do() -> None:
    with pytest.raises(ValueError, match="no row has b row in its name: a row"):
        chosen({"a row": CASE}, ["b row"])


def test_the_name_of_a_row_is_that_row_alone_and_other_texts_are_searched() -> None:
    longer = Case("a row, longer", "fast", lambda size: {}, {}, SIZES)
    cases = {"a row": CASE, "a row, longer": longer}
    assert chosen(cases, ["a row"]) == [CASE]
    assert chosen(cases, ["a r"]) == [CASE, longer]
    assert chosen(cases, None) == [CASE, longer]
