"""The laws of check over the whole registry in each of its modes, and the manners of the house.

An objective is exempt from a law only by its own metadata, with the reason there.
"""

from __future__ import annotations

import copy
import inspect
import math
import pickle

import pytest
import torch

import lossmith as lm
from contract.cases import CASES, Case
from lossmith.check.engine import chosen, try_law
from lossmith.check.laws.base import Law
from lossmith.check.suite import verify
from lossmith.core.spec import Spec, objectives, parse

SPECS = list(objectives())
LAWS = chosen(None)
all_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
all_specs = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
# Autocast knows no meta device, so an objective with matrix products cannot be followed there.
UNTESTABLE = {"device"}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
@all_cases
def test_law(case: Case, law: Law) -> None:
    finding = try_law(law, case.subject, math.inf)
    if finding.status == "untested" and law.name not in UNTESTABLE:
        pytest.fail(f"{law.name} could not be tried: {finding.detail}", pytrace=False)
    verify(finding)


@all_specs
def test_an_exemption_names_a_law_and_a_reason(spec: Spec) -> None:
    names = {law.name for law in LAWS}
    for law, reason in spec.exempt.items():
        assert law.replace(" ", "-") in names and len(reason) > 20


@all_cases
def test_module_is_the_function(case: Case) -> None:
    example = case.example(15)
    module = getattr(lm, case.spec.module_name)(**example.needed, **case.modes)
    inputs = (*example.predictions, *example.labels)
    for face in (module, pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
        assert torch.equal(face(*inputs), case(example))
        assert not face.state_dict()
    for knob in case.spec.knobs:
        assert f"{knob}=" in repr(module)
    again = lm.from_text(module.text)
    assert repr(again) == repr(module)


@all_specs
def test_an_unknown_knob_is_answered_with_a_suggestion(spec: Spec) -> None:
    with pytest.raises(ValueError, match="Did you mean 'reduction'"):
        getattr(lm, spec.module_name)(reductoin="sum")
    with pytest.raises(ValueError, match="Did you mean 'reduction'"):
        parse(f"{spec.name}(reductoin='sum')")


@all_specs
def test_reduction_must_be_known(spec: Spec) -> None:
    case = next(case for case in CASES if case.spec is spec)
    with pytest.raises(ValueError, match="reduction='average' is not a choice"):
        case(case.example(), reduction="average")


@all_specs
def test_docstring_says_everything(spec: Spec) -> None:
    text = inspect.getdoc(spec.function) or ""
    wanted = [
        "Formula:",
        "Use ",
        "Not ",
        "Shapes:",
        "Mean divides by:",
        "Errors:",
        ">>> ",
        "Source:",
    ]
    missing = [part for part in wanted if part not in text]
    assert not missing
    assert spec.summary.endswith(".") and len(spec.summary) < 120


@all_specs
def test_signature_follows_the_house(spec: Spec) -> None:
    parameters = list(spec.parameters.values())
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert len(positional) <= 4
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[len(positional) :])
    assert {"reduction", "divisor", "mask"} <= set(spec.parameters)
    assert set(spec.tune) <= set(spec.knobs)
    for name, tune in spec.tune.items():
        assert tune.choices or tune.low < tune.high, name


def test_names_are_unique() -> None:
    names = [spec.name for spec in SPECS] + [spec.module_name for spec in SPECS]
    assert len(names) == len(set(names))
