"""How outputs meet a loss: over the registry, and what each family's feeds mean."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lossmith.core.spec import parse
from lossmith.modules import from_text
from lossmith.tasks import TASK_FAMILIES
from lossmith.tasks.registry import load_task
from lossmith.tasks.task import GradientLearner
from tasks import tiny

FITTING = [
    (family, tiny.loss(family, spec.name))
    for family in TASK_FAMILIES
    for spec in load_task(family).fitting()
]


def cost(family, problem, loss, model, **given):
    """The cost of the first batch, and its gradient in the model."""
    settings = tiny.settings(family, **given)
    objective = from_text(loss)
    batch = next(iter(problem.batches(settings, 0, 1)))
    model.zero_grad()
    value = problem.cost(model, batch, objective, load_task(family).feed(objective.spec))
    value.backward()
    return value, [parameter.grad for parameter in model.parameters()]


def fresh(family, problem, **given):
    torch.manual_seed(0)
    return problem.model(tiny.settings(family, **given))


@pytest.mark.parametrize(("family", "loss"), FITTING)
def test_every_fitting_objective_trains(family, loss):
    task, problem, settings = load_task(family), tiny.PROBLEMS[family](), tiny.settings(family)
    value, grads = cost(family, problem, loss, fresh(family, problem))
    assert value.shape == () and value.isfinite() and value > 0
    assert all(grad is None or grad.isfinite().all() for grad in grads)
    assert sum(grad is not None and bool(grad.any()) for grad in grads) >= 2

    learner = GradientLearner(task, problem, loss, settings, seed=0)
    before = [parameter.detach().clone() for parameter in learner.model.parameters()]
    first, *others = [learner.epoch() for _ in range(30)]
    # The weights of LambdaLoss change with the order: its value is no measure of progress.
    if "monotone" not in parse(loss)[0].exempt:
        assert others[-1] < first, "thirty passes over two dozen rows must fit some of them"
    assert any(
        not torch.equal(old, new)
        for old, new in zip(before, learner.model.parameters(), strict=True)
    )


@pytest.mark.parametrize("loss", [loss for family, loss in FITTING if family == "classification"])
def test_every_objective_of_two_classes_trains_on_more(loss):
    problem = tiny.classification(classes=3)
    learner = GradientLearner(
        load_task("classification"), problem, loss, tiny.settings("classification"), seed=0
    )
    assert learner.model(problem.tensors.ids["train"]).shape == (tiny.ROWS["train"], 3)
    first, *others = [learner.epoch() for _ in range(30)]
    assert others[-1] < first


@pytest.mark.parametrize("family", TASK_FAMILIES)
def test_each_family_has_losses_that_fit_and_its_defaults_are_among_them(family):
    task = load_task(family)
    names = [spec.name for spec in task.fitting()]
    assert len(names) > 3 and {parse(loss)[0].name for loss in task.default_losses} <= set(names)
    for loss in (*task.default_losses, *(tiny.loss(family, name) for name in names)):
        task.check(loss, task.resolve({}))


@pytest.mark.parametrize(
    ("family", "loss", "complaint"),
    [
        ("classification", "listnet", "takes scores.relevance, which the classification task does"),
        ("tagging", "bpr", "Losses that fit: .*masked_binary_cross_entropy"),
        ("recommendation", "wrap", "Did you mean 'warp'"),
        ("recommendation", "warp(margn=1)", "Did you mean 'margin'"),
        ("recommendation", "bpr(reduction='none')", "training needs one"),
        ("classification", "lightfm", "there is no objective 'lightfm'"),
        ("ranking", "bpr", "Losses that fit: .*listnet"),
        ("regression", "ranknet", "takes scores.relevance, which the regression task does"),
        (
            "regression",
            "epsilon_insensitive",
            r"needs epsilon, which has no default: epsilon_insensitive\(epsilon=0.1\)",
        ),
    ],
)
def test_a_loss_that_does_not_fit_is_refused_before_training(family, loss, complaint):
    task = load_task(family)
    with pytest.raises(ValueError, match=complaint):
        task.check(loss, task.resolve({}))


@pytest.mark.parametrize("family", TASK_FAMILIES)
def test_the_printed_usage_runs_up_to_the_data(family):
    task = load_task(family)
    for spec in task.fitting():
        lines = task.usage(spec.name).splitlines()
        names: dict[str, object] = {}
        exec("\n".join(lines[:3]), names)
        assert names["objective"].text == spec.name
        assert lines[3].startswith("loss = ") and "objective(" in lines[3]
        assert lines[4] == "loss.backward()"
        compile(lines[3], "usage", "exec")


# ---------------------------------------------------------------------------- classification


def test_two_classes_are_logits_0_and_x_so_cross_entropy_is_the_binary_one():
    problem = tiny.classification()
    model = fresh("classification", problem)
    binary, expected = cost("classification", problem, "binary_cross_entropy", model)
    for loss in ("cross_entropy", "kl_divergence"):
        value, grads = cost("classification", problem, loss, model)
        torch.testing.assert_close(value, binary)
        torch.testing.assert_close(grads, expected)


def test_more_classes_than_two_are_that_many_yes_or_no_to_a_binary_loss():
    problem = tiny.classification(classes=3)
    model = fresh("classification", problem)
    value, _ = cost("classification", problem, "binary_cross_entropy", model)
    ids, target = next(iter(problem.batches(tiny.settings("classification"), 0, 1)))
    wanted = (target.unsqueeze(-1) == torch.arange(3)).float()
    torch.testing.assert_close(value, F.binary_cross_entropy_with_logits(model(ids), wanted))


def test_a_classifier_is_judged_on_the_whole_part_without_dropout():
    problem = tiny.classification()
    task, settings = load_task("classification"), tiny.settings("classification", dropout=0.9)
    torch.manual_seed(0)
    model = problem.model(settings).train()
    found = problem.evaluate(model, "test", task.metrics(settings))
    logits = model.eval()(problem.tensors.ids["test"]).squeeze(-1)
    right = (logits > 0) == (problem.tensors.labels["test"] == 1)
    assert found["accuracy"] == pytest.approx(right.double().mean().item())
    expected = F.binary_cross_entropy_with_logits(logits, problem.tensors.labels["test"].float())
    assert found["log_loss"] == pytest.approx(expected.item(), rel=1e-5)


# ---------------------------------------------------------------------------- tagging


def first_labels(problem):
    ids, labels = next(iter(problem.batches(tiny.settings("tagging"), 0, 1)))
    assert (labels == -1).any() and (labels == 0).any() and (labels == 1).any()
    return ids, labels


def test_a_missing_label_is_no_to_a_loss_that_knows_none():
    problem = tiny.tagging()
    model = fresh("tagging", problem)
    ids, labels = first_labels(problem)
    value, _ = cost("tagging", problem, "binary_cross_entropy", model)
    expected = F.binary_cross_entropy_with_logits(model(ids), labels.clamp(min=0))
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("missing", ["", "missing=nan", "missing=-7", "missing=0.5"])
def test_a_missing_label_is_left_out_whatever_the_knob_calls_it(missing):
    problem = tiny.tagging()
    model = fresh("tagging", problem)
    ids, labels = first_labels(problem)
    value, _ = cost("tagging", problem, f"masked_binary_cross_entropy({missing})", model)
    seen = labels >= 0
    expected = F.binary_cross_entropy_with_logits(model(ids)[seen], labels[seen])
    torch.testing.assert_close(value, expected)


def test_a_ranking_loss_ranks_the_observed_labels_of_each_text():
    problem = tiny.tagging()
    model = fresh("tagging", problem)
    ids, labels = first_labels(problem)
    value, _ = cost("tagging", problem, "ranknet", model)
    pairs = []
    for scores, row in zip(model(ids), labels, strict=True):
        for i in range(len(row)):
            for j in range(len(row)):
                if row[i] == 1 and row[j] == 0:
                    pairs.append(F.softplus(-(scores[i] - scores[j])))
    torch.testing.assert_close(value, torch.stack(pairs).mean())


def test_tags_are_judged_on_the_labels_that_the_data_has():
    problem = tiny.tagging()
    task, settings = load_task("tagging"), tiny.settings("tagging", observed=1)
    model = fresh("tagging", problem)
    found = problem.evaluate(model, "test", task.metrics(settings))
    logits, labels = model(problem.tensors.ids["test"]), problem.tensors.labels["test"]
    shares = []
    for scores, row in zip(logits.T, labels.T, strict=True):
        wins = [float(a > b) for a in scores[row == 1] for b in scores[row == 0]]
        shares.append(sum(wins) / len(wins))
    assert found["macro_auc"] == pytest.approx(sum(shares) / len(shares))


# ---------------------------------------------------------------------------- pairing


@pytest.mark.parametrize("family", TASK_FAMILIES)
def test_the_losses_of_a_seed_start_from_the_same_weights(family):
    task, problem, settings = load_task(family), tiny.PROBLEMS[family](), tiny.settings(family)

    def start(loss, seed):
        learner = GradientLearner(task, problem, loss, settings, seed)
        return torch.cat([p.detach().flatten() for p in learner.model.parameters()])

    losses = [tiny.loss(family, spec.name) for spec in task.fitting()]
    first, *others = [start(loss, 5) for loss in losses]
    assert all(torch.equal(first, other) for other in others)
    assert not torch.equal(first, start(losses[0], 6))


@pytest.mark.parametrize("family", TASK_FAMILIES)
def test_batches_depend_on_seed_and_epoch_alone(family):
    problem, settings = tiny.PROBLEMS[family](), tiny.settings(family)

    def order(seed, epoch):
        torch.manual_seed(len(made))  # whatever else has been drawn
        made.append(0)
        return tiny.columns(problem.batches(settings, seed, epoch))

    made: list[int] = []
    first = order(3, 2)
    assert all(map(torch.equal, first, order(3, 2)))
    for other in (order(3, 1), order(4, 2)):
        assert not (
            all(a.shape == b.shape for a, b in zip(first, other, strict=True))
            and all(map(torch.equal, first, other))
        )
        for a, b in zip(first, other, strict=True):  # another order of the same rows
            a, b = (
                ids[(ids != 0) & (ids != -100)] if family == "generation" else ids for ids in (a, b)
            )
            assert torch.equal(a.flatten().sort().values, b.flatten().sort().values)


def test_the_last_batch_is_what_is_left():
    problem = tiny.classification()
    sizes = [len(ids) for ids, _ in problem.batches(tiny.settings("classification"), 0, 1)]
    assert sizes == [8, 8, 8]
    settings = tiny.settings("classification", batch_size=10)
    assert [len(ids) for ids, _ in problem.batches(settings, 0, 1)] == [10, 10, 4]
