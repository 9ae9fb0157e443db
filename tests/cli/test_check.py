from __future__ import annotations

import json
import subprocess
import sys

import pytest

from lossmith.check.report import Finding, Interrupted, Report
from lossmith.cli.app import run

LOSSES = """
def dead(positive, negative, factor=0.5):
    hits = (positive.detach() > negative.detach()).float()
    return (negative - positive).relu().mean() + factor * hits.mean()

def bpr(positive, negative):
    return -(1e-10 + (positive - negative).sigmoid()).log().mean()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine.py").write_text(LOSSES)
    yield tmp_path
    sys.modules.pop("mine", None)


def check(*words: str) -> int:
    return run(["check", *words])


def test_a_broken_law_is_shown_in_full_and_exits_with_one(folder, capfd):
    asked = ("--laws", "gradient,saturation", "--html", "page.html")
    assert check("mine.py:bpr", *asked) == 1
    said = capfd.readouterr()
    assert "✓ held  gradient" in said.out and "✗ saturation" in said.out
    for part in ("expected", "got", "why", "mend"):
        assert f"  {part} " in said.out
    assert said.out.splitlines()[-1] == "1 of 2 laws is broken: saturation."
    assert said.err == ""  # no bar where nobody watches

    page = (folder / "page.html").read_text("utf-8")
    assert "1 of 2 laws is broken: saturation." in page
    assert "lossmith check mine.py:bpr" in page
    assert "<script" not in page and "http" not in page and "src=" not in page


def test_held_laws_exit_with_zero_and_quiet_leaves_the_verdict(folder, capfd):
    assert check("bpr", "--laws", "gradient,saturation", "--quiet") == 0
    said = capfd.readouterr().out
    assert said.splitlines()[-1] == "All 2 laws hold." and "✓" not in said


def test_json_is_the_report_and_arguments_reach_the_loss(folder, capfd):
    asked = ("--inputs", "positive+negative", "--args", "factor=2.5", "--laws", "dead-knob")
    assert check("mine.py:dead", *asked, "--json") == 1
    report = Report.from_dict(json.loads(capfd.readouterr().out))
    assert report.broken == ("dead-knob",) and report.loss == "mine.py:dead"
    assert report["dead-knob"].example["factor"] == "2.5"


def test_the_page_escapes_what_a_loss_says():
    from lossmith.cli.check_report import html

    finding = Finding("shapes", "broken", "why", "how", detail="<b>&", example={"<x>": "1 < 2"})
    page = html(Report("<i>loss</i>", "ranking", "triplet", 0, 1.0, (finding,)), "x && y")
    assert "<b>" not in page.split("<main>")[1].replace("<b>&amp;", "")
    assert "&lt;i&gt;loss" in page and "1 &lt; 2" in page and "x &amp;&amp; y" in page


def test_every_law_is_listed_with_its_reason(capfd):
    from lossmith.check.laws import laws

    assert check("--list", "--json") == 0
    rows = json.loads(capfd.readouterr().out)
    assert [row["law"] for row in rows] == list(laws())
    assert check("--list") == 0
    said = capfd.readouterr().out
    assert all(name in said for name in laws())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mine.py:bpt"], "mine.py has no 'bpt'. Did you mean 'bpr'?"),
        (["mine.py:bpr", "--family", "rankin"], "Did you mean 'ranking'?"),
        (["mine.py:bpr", "--inputs", "logit+class"], "Did you mean"),
        (["mine.py:bpr", "--laws", "saturaton"], "Did you mean 'saturation'?"),
        (["mine.py:bpr", "--args", "margin"], "name=value"),
        (["mine.py:bpr", "--seconds", "0"], "--seconds"),
        (["mine.py:bpr", "--args", "margn=1", "--inputs", "positive+negative"], "margn"),
        ([], "say which loss to check"),
    ],
)
def test_a_users_mistake_is_a_message_and_exits_with_two(folder, capfd, words, said):
    assert check(*words) == 2
    printed = capfd.readouterr()
    assert said in " ".join(printed.err.replace("│", " ").split()) and printed.out == ""


def test_an_interrupt_keeps_what_was_found(folder, capfd, monkeypatch):
    finding = Finding("gradient", "held", "why", "how")
    late = Finding("descent", "untested", "why", "how", detail="interrupted")

    def stopped(loss, **asked):
        report = Report("mine", "ranking", "triplet", 0, 1.0, (finding, late))
        raise Interrupted(report)

    monkeypatch.setattr("lossmith.check.check_loss", stopped)
    assert check("mine.py:bpr", "--html", "page.html") == 130
    said = capfd.readouterr()
    assert "gradient" in said.out and "Interrupted" in said.err
    assert (folder / "page.html").exists()


def test_help_imports_no_torch():
    code = (
        "import sys; from lossmith.cli.app import run\n"
        "code = run(['check', '--help']); print(code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 False"
