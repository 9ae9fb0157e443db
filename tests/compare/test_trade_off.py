"""The trade-off of two metrics: places, front, sweeps, and how the report shows them."""

from __future__ import annotations

import json
import random
from xml.etree import ElementTree

import pytest
from test_report import Page, reported

from lossmith.compare.plan import Arm
from lossmith.compare.trade_off import pareto_front, sweeps


@pytest.mark.parametrize("higher", [(True, True), (False, True), (True, False), (False, False)])
def test_the_front_is_what_no_other_place_beats(higher):
    draw = random.Random(0)
    places = {str(i): (draw.randint(0, 6), draw.randint(0, 6)) for i in range(25)}
    signs = [1 if up else -1 for up in higher]
    wanted = set()
    for name, own in places.items():
        beaten = False
        for other in places.values():
            gains = [sign * (b - a) for sign, a, b in zip(signs, own, other, strict=True)]
            beaten = beaten or (min(gains) >= 0 and max(gains) > 0)
        if not beaten:
            wanted.add(name)
    front = pareto_front(places, higher)
    assert set(front) == wanted and 0 < len(front) < 25
    across = [places[name][0] for name in front]
    assert across == sorted(across)


def arm(loss: str, **settings: object) -> Arm:
    return Arm("@".join([loss, *(f"{k}={v}" for k, v in settings.items())]), loss, settings)


def test_a_sweep_is_losses_that_differ_in_one_number_in_its_order():
    arms = [
        arm("keyword_hybrid(presence=2.0, placement=0.0)"),
        arm("keyword_hybrid(presence=0.5, placement=0.0)"),
        arm("keyword_hybrid(presence=10.0, placement=0.0)"),
        arm("keyword_hybrid(presence=0.5, placement=0.0, form='nll')"),
        arm("cross_entropy"),
    ]
    assert sweeps(arms) == [tuple(arms[i].text for i in (1, 0, 2))]


def test_a_setting_can_be_what_is_swept():
    arms = [arm("keyword_presence", factor=f, model=m) for f in (1, 0.5) for m in ("gru", "lstm")]
    found = {tuple(text.split("@")[1] for text in sweep) for sweep in sweeps(arms)}
    assert found == {("factor=0.5", "factor=1")} and len(sweeps(arms)) == 2


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return reported(tmp_path_factory.mktemp("r"), "a b c", 3)


def test_the_places_are_the_scores_of_each_training_and_their_means(report):
    found = report.trade_off
    assert (found.across, found.up, found.higher_is_better) == (
        "log_loss",
        "accuracy",
        (False, True),
    )
    for (name, seed), outcome in report.outcomes.items():
        wanted = (outcome.scores["log_loss"], outcome.scores["accuracy"])
        assert found.places[name][seed] == wanted
    for name, mean in found.means.items():
        values = [place[0] for place in found.places[name].values()]
        assert mean[0] == pytest.approx(sum(values) / 3)
    assert found.front == ("b",)  # better in both


def test_the_page_draws_it_and_says_it_to_who_cannot_see(report):
    svg = report._figures()["trade_off"]
    ElementTree.fromstring(svg)
    label = svg[svg.index('aria-label="') :].split('"')[1]
    assert "Trade-off of log_loss and accuracy" in label
    for name in "abc":
        assert f"{name}: log_loss " in label
    assert label.count("on the front") == 1
    # A sign for each of 3 x 3 trainings and for each mean.
    assert svg.count("<use ") >= 12
    page = Page(report.html())
    text = "".join(page.text)
    assert "Trade-off: accuracy against log_loss" in text and page.stack == []
    assert "accuracy:by hand" in text  # the signature of who computed it


def test_markdown_and_json_have_it_too(report):
    text = (report.folder / "report.md").read_text()
    assert "| loss | log_loss | accuracy | on the front |" in text
    line = next(line for line in text.split("## Trade-off")[1].splitlines() if "`b`" in line)
    assert line.endswith("| yes |")
    assert json.loads((report.folder / "results.json").read_text())["trade_off"]["front"] == ["b"]


def test_one_loss_alone_has_no_trade_off(tmp_path):
    report = reported(tmp_path, "a", 2)
    assert report.trade_off is None
    assert "Trade-off" not in report.html() and "Trade-off" not in report.markdown()
