import keyword
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lossmith.core.call import format_call, parse_call, split_list

repeatable = settings(deadline=None, derandomize=True, database=None, max_examples=200)
names = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: not keyword.iskeyword(name)
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
plain = st.recursive(
    scalars, lambda some: st.lists(some, max_size=3) | st.lists(some, max_size=3).map(tuple)
)
calls = st.tuples(names, st.dictionaries(names, plain, max_size=4))


def same(a, b):
    """Equal in type and value, NaN equal to itself and -0.0 other than 0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b)


@repeatable
@given(calls)
def test_text_reads_back_as_it_was(call):
    name, values = call
    read_name, read_values = parse_call(format_call(name, values))
    assert read_name == name
    assert list(read_values) == list(values)
    assert all(same(read_values[key], values[key]) for key in values)


@repeatable
@given(st.lists(calls, max_size=4))
def test_a_list_splits_into_the_calls_it_was_made_of(many):
    texts = [format_call(*call) for call in many]
    assert split_list(", ".join(texts)) == texts


@repeatable
@given(st.text(alphabet="abf(),='\"[]{}1-. \\\n", max_size=12))
def test_any_other_text_is_answered_with_a_value_error(text):
    try:
        name, values = parse_call(text)
    except ValueError as error:
        assert repr(text) in str(error)
    else:
        assert name.isidentifier()
        assert isinstance(values, dict)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("f(a=harmonic)", "harmonic"),
        ("f(a='harmonic')", "harmonic"),
        ("f(a=True)", True),
        ("f(a=true)", True),
        ("f(a=false)", False),
        ("f(a=none)", None),
        ("f(a=None)", None),
        ("f(a='none')", "none"),
        ("f(a=inf)", math.inf),
        ("f(a=-inf)", -math.inf),
        ("f(a=-1)", -1),
        ("f(a=1e-3)", 1e-3),
        ("f(a=[cat, 'dog', 1])", ["cat", "dog", 1]),
        ("f(a=[inf, [-1.5, none]])", [math.inf, [-1.5, None]]),
        ("f(a=(1, 2))", (1, 2)),
        ("  f( a = 1 )  ", 1),
    ],
)
def test_words_and_numbers_as_a_shell_user_types_them(text, value):
    name, values = parse_call(text)
    assert (name, list(values)) == ("f", ["a"])
    assert same(values["a"], value)


def test_nan_is_a_word():
    assert math.isnan(parse_call("f(a=nan)")[1]["a"])
    assert math.isnan(parse_call(format_call("f", {"a": math.nan}))[1]["a"])


def test_a_tensor_is_written_as_the_list_that_reads_back():
    weights = torch.tensor([[1.0, math.inf], [0.1, -3.0]])
    text = format_call("f", {"class_weight": weights, "scale": torch.tensor(2)})
    values = parse_call(text)[1]
    assert torch.equal(torch.tensor(values["class_weight"]), weights)
    assert values["scale"] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' does not read as a name or as name(knob=value, ...)."),
        ("warp(", "'warp(' does not read as a name"),
        ("warp(margin=0.5", "does not read as a name"),
        ("warp.margin", "does not read as a name"),
        ("warp(margin=0.5)(x=1)", "does not read as a name"),
        ("a.warp(margin=0.5)", "does not read as a name"),
        ("3", "does not read as a name"),
        ("a, b", "does not read as a name"),
        ("warp(0.5)", "'warp(0.5)': give every value by name, as in warp(knob=0.5)."),
        ("warp(**x)", "give every value by name"),
        ("warp(margin=1, margin=2)", "margin is given twice."),
        ("warp(margin=1+1)", "1 + 1 is not a plain value; expected a number, a word, True"),
        ("warp(margin=open('x'))", "open('x') is not a plain value"),
        ("warp(margin=[x.y])", "x.y is not a plain value"),
        ("warp(margin=-word)", "-word is not a plain value"),
    ],
)
def test_what_does_not_read_is_answered_with_what_does(text, message):
    with pytest.raises(ValueError) as raised:
        parse_call(text)
    assert message in str(raised.value)


def test_nothing_is_evaluated(tmp_path):
    trace = tmp_path / "trace"
    with pytest.raises(ValueError, match="is not a plain value"):
        parse_call(f"warp(margin=__import__('pathlib').Path({str(trace)!r}).touch())")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        (" , ,", []),
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ("a(x=[1, 2], y=(3, {4, 5})), b", ["a(x=[1, 2], y=(3, {4, 5}))", "b"]),
        ("a(x='1, 2)'), b", ["a(x='1, 2)')", "b"]),
        ('a(x="it\'s, so"), b', ['a(x="it\'s, so")', "b"]),
        (r"a(x='it\'s, \\'), b", [r"a(x='it\'s, \\')", "b"]),
    ],
)
def test_only_commas_outside_brackets_and_quotes_split(text, parts):
    assert split_list(text) == parts
