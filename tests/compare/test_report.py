from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import matplotlib
import pytest
from fake_run import run_one
from fake_study import FakeTask, study

from lossmith.compare import wording
from lossmith.compare.report import make_report
from lossmith.compare.store import Store
from lossmith.compare.wording import MINUS

VOID = {"meta", "wbr", "br", "link", "img"}


def reported(folder, losses="a b c d", seeds=8, *, without=(), failures=None, **asked):
    """A report over trainings done here, without worker processes."""
    one = study(folder, losses, seeds, **asked)
    with Store.open(folder, one.plan, one.description) as store:
        for run in one.plan.runs():
            if run.key not in without:
                store.save(run, run_one(run.job))
        report = make_report(store, one.plan, one.description, FakeTask(), failures or {})
        report.write(store)
    return report


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return reported(tmp_path_factory.mktemp("r"))


class Page(HTMLParser):
    """Checks the nesting and keeps what is asked about."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.tags, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_a_verdict_never_has_a_p_without_direction_effect_interval_and_seeds(report):
    for sentence in report.sentences:
        if "p " in sentence:
            assert re.search(rf"[+{MINUS}]\d\.\d+ accuracy", sentence)
            assert "95 % interval" in sentence and re.search(r"better in \d of \d seeds", sentence)


def test_the_verdict_names_winner_loser_and_the_undecided(report):
    assert report.headline == "b beats a"
    assert report.sentences[0].startswith("b beats a by +0.0")
    assert f"c is worse than a by {MINUS}0.0" in report.verdict
    assert "No difference was found between a and d with 8 seeds" in report.verdict


def test_too_few_seeds_are_said_with_the_number_that_is_needed(tmp_path):
    report = reported(tmp_path, "a b", 3)
    assert report.headline == "Not enough seeds"
    assert "at least 6 are needed" in report.verdict and "--seeds 10" in report.verdict
    assert "1 seed is not enough" in reported(tmp_path / "one", "a b", 1).verdict


def test_nothing_beats_a_baseline_that_wins_everywhere(tmp_path):
    assert reported(tmp_path, "b a c").headline == "Nothing beats b"


def test_equal_numbers_are_called_equal(tmp_path):
    report = reported(tmp_path, "a a@model=lstm")
    assert report.verdict.startswith(
        "a@model=lstm gave exactly the numbers of a, in every metric, in each of 8 seeds: "
    )
    assert report.headline == "a and a@model=lstm gave identical results"
    assert report.rows()[1]["verdict"] == "identical"


def test_equal_numbers_of_few_seeds_are_no_want_of_seeds(tmp_path):
    report = reported(tmp_path / "2", "a a@model=lstm", 2)
    assert report.headline == "a and a@model=lstm gave identical results"
    assert "--seeds" not in report.verdict
    assert "in the one seed" in reported(tmp_path / "1", "a a@model=lstm", 1).verdict
    many = reported(tmp_path / "4", "a a@model=lstm a@model=cnn a@model=gru", 2)
    assert many.headline == "All losses gave identical results"
    mixed = reported(tmp_path / "b", "a a@model=lstm b", 2)
    assert mixed.headline == "Not enough seeds" and "exactly the numbers" in mixed.verdict


def test_one_loss_alone_is_reported_without_a_comparison(tmp_path):
    report = reported(tmp_path, "a")
    assert "Only a was trained" in report.verdict
    assert "Difference to" not in report.html() and "| `a` |" in report.markdown()


def test_where_lower_is_better_the_words_follow(tmp_path):
    report = reported(tmp_path, "a b", metric="log_loss")
    assert report.sentences[0].startswith(f"b beats a by {MINUS}0.0")
    assert report.sentences[-1] == "Lower log_loss is better."


def test_a_loss_without_a_single_run_does_not_break_the_report(tmp_path):
    gone = {("b", seed) for seed in range(8)}
    failures = dict.fromkeys(gone, "ValueError: <no> & never")
    report = reported(tmp_path, "a b", without=gone, failures=failures)
    assert "b has no seed in common with a" in report.verdict
    page = Page(report.html())
    assert "b, seed 0, failed: ValueError: <no> & never" in "".join(page.text)
    assert json.loads((tmp_path / "results.json").read_text())["failures"][0]["arm"] == "b"


def test_nothing_at_all_finished_is_still_a_report(tmp_path):
    gone = {(arm, seed) for arm in "ab" for seed in range(2)}
    report = reported(tmp_path, "a b", 2, without=gone)
    Page(report.html())
    assert report.csv().count("failed") == 4


def test_the_page_is_one_file_that_asks_the_network_for_nothing(report):
    page = (report.folder / "report.html").read_text()
    for _, attributes in Page(page).tags:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")
    assert "@import" not in page and not re.search(r"url\((?!#)", page)


def test_the_page_is_well_nested_and_its_ids_are_its_own(report):
    page = Page(report.html())
    assert page.stack == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = re.findall(r'(?:url\(#|xlink:href="#|labelledby=")([^)"]+)', report.html())
    assert set(used) <= set(ids)


def test_the_page_opens_with_the_verdict_and_ends_with_the_code(report):
    text = re.sub(r"\s+", " ", "".join(Page(report.html()).text))
    order = ["b beats a by", "Difference to a", "Results", "Learning curves", "Every metric",
             "Cost and steadiness", "Data and settings", "Use b", "lm.from_text('b')"]  # fmt: skip
    places = [text.rindex(part) for part in order]
    assert places == sorted(places)
    assert report.signature in text and report.plan.command() in text
    assert "The column 'review' was taken as the text." in text


def test_the_page_can_be_read_without_seeing_it(report):
    tags = Page(report.html()).tags
    assert ("html", {"lang": "en"}) in tags
    assert [tag for tag, _ in tags].count("h1") == 1
    assert [tag for tag, _ in tags].count("table") == [tag for tag, _ in tags].count("caption")
    for tag, attributes in tags:
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
        if tag == "th":
            assert attributes["scope"] in ("col", "row", "rowgroup")
    # A screen reader lists the landmarks by name: a section, and not once more the table in it.
    landmarks = [a["aria-labelledby"] for _, a in tags if a.get("role") == "region"]
    landmarks += [a["aria-labelledby"] for t, a in tags if t == "section"]
    assert len(landmarks) == len(set(landmarks)) > 4


def test_the_page_knows_dark_screens_and_paper(report):
    page = report.html()
    assert "prefers-color-scheme: dark" in page and "@media print" in page
    assert 'name="viewport"' in page


def test_figures_take_their_colours_from_the_page_and_keep_text_as_text(report):
    for svg in (report._figures()["forest"], report._figures()["curves"]):
        root = ElementTree.fromstring(svg)
        words = [element.text for element in root.iter() if element.tag.endswith("}text")]
        assert any("accuracy" in (word or "") for word in words)
        assert "currentColor" in svg and "var(--series-" in svg
        assert "#010203" not in svg and "#040506" not in svg
        assert "metadata" not in svg and "DejaVu" not in svg


def test_the_same_results_give_the_same_page_and_leave_no_state_behind(report):
    before = dict(matplotlib.rcParams)
    assert report.html() == report.html()
    assert dict(matplotlib.rcParams) == before


def test_the_signature_holds_what_it_takes_to_get_the_numbers_again(report):
    parts = dict(part.split(":", 1) for part in report.signature.split("|"))
    assert parts["metric"] == "accuracy" and parts["seeds"] == "0-7" and parts["data"] == "f0"
    assert parts["epoch"] == "best on valid" and parts["threads"] == "1"
    assert parts["split"] == "random 80/20 s0"
    assert {"lossmith", "torch"} <= parts.keys() and "device" not in parts
    first, *others = report.plan.arms
    away = replace(first, settings={**first.settings, "device": "cuda"})
    moved = replace(report, plan=replace(report.plan, arms=(away, *others)))
    assert moved.signature.endswith("|threads:1|device:cpu+cuda")


def test_trainings_made_with_two_versions_of_torch_are_pointed_out(tmp_path):
    reported(tmp_path, "a b", 2)
    path = tmp_path / "runs" / "a" / "seed-0.json"
    values = json.loads(path.read_text())
    values["environment"]["torch"] = "1.0"
    path.write_text(json.dumps(values))
    report = reported(tmp_path, "a b", 2, without={("a", 0)})
    assert "1.0+" in report.signature
    assert any("of torch" in line for line in report.warnings)


def test_json_holds_each_epoch_and_no_nan(tmp_path):
    report = reported(tmp_path, "a b", 2, trouble="nan b 1")

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    values = json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse)
    assert len(values["runs"]) == 4 and len(values["runs"][0]["epochs"]) == 4
    run = next(one for one in values["runs"] if (one["arm"], one["seed"]) == ("b", 1))
    assert run["scores"]["accuracy"] is None
    assert values["verdict"] == report.verdict and values["signature"] == report.signature


def test_csv_has_one_row_per_loss_and_seed(tmp_path):
    report = reported(tmp_path, "a b", 2, without={("b", 1)})
    rows = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text())))
    assert [(row["arm"], row["seed"], row["status"]) for row in rows] == [
        ("a", "0", "finished"), ("b", "0", "finished"), ("a", "1", "finished"),
        ("b", "1", "failed"),
    ]  # fmt: skip
    assert float(rows[0]["accuracy"]) == report.outcomes["a", 0].scores["accuracy"]


def test_markdown_tables_have_as_many_cells_as_their_heads(report):
    lines = (report.folder / "report.md").read_text().splitlines()
    widths = None
    for line in lines:
        if not line.startswith("|"):
            widths = None
            continue
        widths = widths or line.count("|")
        assert line.count("|") == widths, line
    assert "\n\n\n" not in "\n".join(lines)


def test_a_report_shows_itself(report):
    assert repr(report).endswith("report.html: b beats a>")
    assert report._repr_html_().startswith("<iframe srcdoc=")


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [(-0.0004, 2, "0.00"), (-0.12, 2, f"{MINUS}0.12"), (0.12, 1, "+0.1"), (float("nan"), 2, "—")],
)
def test_numbers_have_a_true_minus_and_no_negative_zero(value, places, text):
    assert wording.number(value, places, sign=True) == text
