import pickle

import pytest
import torch

from lossmith.core.metric import Metric, _registry, find_metric, metric, metrics
from lossmith.core.words import FAMILIES


def test_every_registered_metric_is_found_by_what_the_user_types():
    for one in metrics():
        text = f"{one.base}@7" if one.at_k or one.at_band else one.base
        found = find_metric(text, one.family)
        assert (found.name, found.base, found.family) == (text, one.base, one.family)
        assert found.k == (7 if one.at_k else None)
        assert found.band == (7.0 if one.at_band else None)
        assert find_metric(found.name, one.family) == found


def test_metrics_stand_in_the_order_of_the_families():
    order = [FAMILIES.index(one.family) for one in metrics()]
    assert order == sorted(order)
    assert {"classification", "tagging", "recommendation"} <= {one.family for one in metrics()}


def test_metrics_of_one_family_are_those_of_the_whole_list():
    for family in FAMILIES:
        assert metrics(family) == tuple(one for one in metrics() if one.family == family)


def test_every_metric_states_its_formula_and_what_it_averages():
    for one in metrics():
        doc = one.function.__doc__
        assert doc is not None
        for part in ("Formula:", "Averages over:", ">>>"):
            assert part in doc, (one.name, part)
        assert one.summary.endswith("."), one.name


def test_direction_is_data():
    lower = {one.name for one in metrics() if not one.higher_is_better}
    assert lower >= {"log_loss", "calibration"}
    assert find_metric("accuracy", "classification").higher_is_better


def test_a_metric_with_a_cut_off_is_bound_to_it():
    found = find_metric("precision@2", "recommendation")
    scores = torch.tensor([[3.0, 2.0, 1.0]])
    relevant = torch.tensor([[False, True, True]])
    assert found.function(scores, relevant, None).tolist() == [1 / 2]
    assert found.at(1).function(scores, relevant, None).tolist() == [0.0]
    assert found.at(1).summary == found.summary != ""


def test_a_metric_with_a_band_is_bound_to_it():
    found = find_metric("within@0.50", "regression")
    assert (found.name, found.band, found.k) == ("within@0.5", 0.5, None)
    prediction, target = torch.tensor([1.0, 2.0]), torch.tensor([1.5, 1.0])
    assert found.function(prediction, target).item() == 1 / 2
    assert found.within(1).function(prediction, target).item() == 1
    assert pickle.loads(pickle.dumps(found)) == found


def test_a_metric_may_be_typed_otherwise_than_its_function_is_called():
    assert find_metric("MAP", "ranking").function.__name__ == "average_precision"


def test_a_metric_travels_to_another_process():
    found = find_metric("ndcg@10", "recommendation")
    copy = pickle.loads(pickle.dumps(found))
    assert copy == found
    assert copy.function.keywords == {"k": 10}


def test_capitals_and_blanks_do_not_matter():
    assert find_metric(" NDCG@20 ", "recommendation").name == "ndcg@20"
    assert find_metric("recall@020", "recommendation").name == "recall@20"


@pytest.mark.parametrize(
    ("text", "family", "message"),
    [
        ("acuracy", "classification", "no classification metric 'acuracy'. Did you mean 'accur"),
        ("precison@5", "recommendation", "metric 'precison@5'. Did you mean 'precision@5'?"),
        ("macro_f1", None, "macro_f1 is a metric of classification and tagging; say which family"),
        ("precision", "recommendation", "precision needs a cut-off. Write 'precision@10'"),
        ("precision@", "recommendation", "cut-off '' is not a whole number, 1 or more"),
        ("precision@0", "recommendation", "cut-off '0' is not a whole number, 1 or more"),
        ("precision@-3", "recommendation", "cut-off '-3' is not a whole number, 1 or more"),
        ("precision@k", "recommendation", "cut-off 'k' is not a whole number, 1 or more"),
        ("precision@²", "recommendation", "cut-off '²' is not a whole number, 1 or more"),
        ("auc@10", "recommendation", "auc has no cut-off. Write 'auc'"),
        ("map@10", "ranking", "map has no cut-off. Write 'map'"),
        ("within", "regression", "within needs a band. Write 'within@0.5' for errors"),
        ("within@-1", "regression", "the band '-1' is not a number, 0 or more"),
        ("within@inf", "regression", "the band 'inf' is not a number, 0 or more"),
        ("accuracy", "clasification", "is not a family. Did you mean 'classification'?"),
    ],
)
def test_a_text_that_does_not_name_a_metric_says_what_to_type(text, family, message):
    with pytest.raises(ValueError) as raised:
        find_metric(text, family)
    assert message in str(raised.value)


@pytest.mark.parametrize("k", [0, -1, True, 2.0])
def test_a_cut_off_is_a_whole_number_of_one_or_more(k):
    with pytest.raises(ValueError, match="expected a whole number, 1 or more"):
        find_metric("recall@3", "recommendation").at(k)


def test_a_metric_without_a_cut_off_refuses_one():
    with pytest.raises(ValueError, match="auc has no cut-off"):
        find_metric("auc", "recommendation").at(3)


def test_registering_returns_the_function_and_refuses_an_unknown_family(monkeypatch):
    monkeypatch.setattr("lossmith.core.metric._registry", dict(_registry))

    def sharpness(scores, *, k):
        """How sharp it is.

        More words.
        """
        return k

    assert metric(family="ranking", higher_is_better=False, at_k=True)(sharpness) is sharpness
    found = find_metric("sharpness@4", "ranking")
    assert isinstance(found, Metric)
    assert (found.higher_is_better, found.summary, found.function(None)) == (
        False,
        "How sharp it is.",
        4,
    )
    with pytest.raises(ValueError, match=r"'rankin' is not a family. Did you mean 'ranking'\?"):
        metric(family="rankin", higher_is_better=True)(sharpness)
