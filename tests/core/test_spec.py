import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lossmith as lm
from lossmith.core import spec as spec_file
from lossmith.core.spec import (
    BATCH_ARGUMENTS,
    Spec,
    Tune,
    find,
    objective,
    objectives,
    parse,
)
from lossmith.core.words import FAMILIES, did_you_mean

repeatable = settings(deadline=None, derandomize=True, database=None, max_examples=300)
ALL = objectives()


def same(a, b):
    return type(a) is type(b) and repr(a) == repr(b)


@st.composite
def knobs_of_an_objective(draw):
    """An objective with some of its knobs at values that a user or a search may give them."""
    spec = draw(st.sampled_from(ALL))
    knobs = {}
    for name in draw(st.sets(st.sampled_from(sorted(spec.knobs)))):
        if name in spec.choices:
            knobs[name] = draw(st.sampled_from(spec.choices[name]))
        else:
            number = st.floats() | st.integers() | st.booleans() | st.none()
            knobs[name] = draw(number | st.text(max_size=5) | st.lists(st.floats(), max_size=3))
    return spec, knobs


@repeatable
@given(knobs_of_an_objective())
def test_text_reads_back_as_the_objective_and_the_knobs_that_differ(case):
    spec, knobs = case
    read, values = parse(spec.text(knobs))
    assert read is spec
    for name, value in knobs.items():
        default = spec.knobs[name].default
        assert same(values.get(name, default), value) or value == default
    assert set(values) <= set(knobs)
    assert spec.text(values) == spec.text(knobs)


def test_a_knob_at_its_default_is_not_written():
    spec = find("margin_binary_cross_entropy")
    defaults = {name: parameter.default for name, parameter in spec.knobs.items()}
    assert spec.text(defaults) == spec.text({}) == spec.name
    assert spec.text({**defaults, "margin": 0.7}) == f"{spec.name}(margin=0.7)"


def test_knobs_are_written_in_the_order_of_the_signature():
    spec = find("margin_binary_cross_entropy")
    assert (
        spec.text({"continuous": True, "margin": 0.7})
        == f"{spec.name}(margin=0.7, continuous=True)"
    )


def test_a_nan_default_equals_itself(monkeypatch):
    monkeypatch.setattr(spec_file, "_registry", dict(spec_file._registry))

    @objective(
        family="tagging",
        module="Sample",
        inputs="logits+partial",
        unit="cells",
        serves="nothing",
        limit="none",
        paper="none",
        aliases=("Sample Loss",),
    )
    def sample(logits, labels, *, missing=math.nan, weight=None, reduction="mean"):
        """Push nothing
        anywhere.

        More.
        """

    spec = find("sample")
    assert spec.function is sample
    assert spec.inputs == ("logits+partial",)
    assert spec.summary == "Push nothing anywhere."
    assert spec.text({"missing": math.nan}) == "sample"
    assert spec.text({"missing": -1.0}) == "sample(missing=-1.0)"
    assert list(spec.knobs) == ["missing", "reduction"]
    assert find("Sample") == find("sample loss") == spec


def test_a_tensor_knob_reads_back_as_a_list():
    spec = find("cross_entropy")
    text = spec.text({"class_weight": torch.tensor([1.0, 2.5])})
    assert text == "cross_entropy(class_weight=[1.0, 2.5])"
    assert parse(text) == (spec, {"class_weight": [1.0, 2.5]})


def test_objectives_stand_in_the_order_of_the_families():
    order = [FAMILIES.index(spec.family) for spec in ALL]
    assert order == sorted(order)
    for family in FAMILIES:
        assert objectives(family) == tuple(spec for spec in ALL if spec.family == family)


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
def test_an_objective_is_found_by_every_name_it_goes_by(spec):
    for name in (spec.name, spec.module_name, *spec.aliases, *map(str.upper, spec.aliases)):
        assert find(name) is spec, name


def test_no_two_objectives_share_a_name():
    names = [
        name.lower()
        for spec in ALL
        for name in {spec.name.lower(), spec.module_name.lower(), *map(str.lower, spec.aliases)}
    ]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
def test_metadata_speaks_of_knobs_that_exist(spec):
    assert set(spec.tune) <= set(spec.knobs)
    assert not BATCH_ARGUMENTS & set(spec.knobs)
    positional = [p for p in spec.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert len(positional) <= 4
    home = f"lossmith.losses.{spec.family}"
    assert f"{inspect.getmodule(spec.function).__name__}.".startswith(f"{home}.")
    for tune in spec.tune.values():
        assert tune.choices or tune.low < tune.high
        assert not tune.log or tune.low > 0


def test_choices_are_read_from_the_annotation():
    assert find("hinge").choices == {"power": (1, 2), "reduction": ("mean", "sum", "none")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hinj", "there is no objective 'hinj'. Did you mean 'hinge'?"),
        ("zzzz", "there is no objective 'zzzz'. Known: "),
        ("hinge(pwer=2)", "hinge has no knob 'pwer'. Did you mean 'power'?"),
        ("hinge(mask=1)", "hinge has no knob 'mask'."),
        ("hinge(power=3)", "hinge: power=3 is not a choice; expected one of 1, 2."),
        ("hinge(reduction=men)", "reduction='men' is not a choice; expected one of 'mean', 'sum'"),
        ("hinge(power)", "give every value by name"),
    ],
)
def test_a_text_that_does_not_name_an_objective_says_what_to_type(text, message):
    with pytest.raises(ValueError) as raised:
        parse(text)
    assert message in str(raised.value)


def test_an_unknown_family_is_answered_with_a_suggestion():
    register = objective(
        family="taging", module="X", inputs="triplet", unit="", serves="", limit="", paper=""
    )
    with pytest.raises(ValueError, match=r"'taging' is not a family. Did you mean 'tagging'\?"):
        register(lambda: None)


def test_metadata_is_not_changed_by_accident():
    spec = find("hinge")
    with pytest.raises(AttributeError):
        spec.name = "other"
    assert isinstance(spec, Spec)
    assert Tune(0.1, 1.0) == Tune(low=0.1, high=1.0)


def test_did_you_mean_needs_something_close():
    assert did_you_mean("margn", iter(["margin", "power"])) == " Did you mean 'margin'?"
    assert did_you_mean("q", ["margin", "power"]) == " Known: margin, power."
    assert did_you_mean("q", []) == ""


def test_a_module_is_made_inside_a_compiled_function():
    def loss(x, y):
        return lm.EpsilonInsensitive(epsilon=0.5, power=2)(x, y)

    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    x, y = torch.tensor([1.0, 3.0]), torch.tensor([1.5, 1.5])
    torch.testing.assert_close(compiled(x, y), torch.tensor(0.5))  # (0 + 1) / 2
