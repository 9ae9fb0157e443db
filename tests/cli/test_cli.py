from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fake_study import pretend

import lossmith
from lossmith.cli.app import run


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """The fake task in place of the real ones, in a folder of its own."""
    for name, module in pretend().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    return tmp_path


def compare(*words: str) -> int:
    return run(["compare", "classification", "reviews.csv", *words])


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        ([], 0),
        (["--version"], 0),
        (["compare", "--help"], 0),
        (["losses", "--help"], 0),
        (["compare"], 2),
        (["compare", "clasification", "x.csv"], 2),
        (["compare", "classification", "x.csv", "--seeds", "many"], 2),
        (["compare", "classification", "x.csv", "--epochs", "many"], 2),
        (["losses", "--for", "rankin"], 2),
        (["compair"], 2),
    ],
)
def test_help_and_usage_errors_import_neither_torch_nor_a_reader(words, code):
    done = python(
        "import sys; from lossmith.cli import main\n"
        f"sys.argv = ['lossmith', *{words!r}]\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'polars', 'numpy', 'scipy', 'matplotlib', 'jinja2'} & set(sys.modules)\n"
        "print('CODE', code, sorted(heavy))"
    )
    assert done.stdout.splitlines()[-1] == f"CODE {code} []", done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_tools_packages_the_command_says_what_to_install():
    done = python("import sys; sys.modules['typer'] = None\nfrom lossmith.cli import main\nmain()")
    assert done.returncode == 2
    assert 'pip install "lossmith[compare]"' in done.stderr and "Traceback" not in done.stderr


def test_the_package_is_a_command_too():
    done = subprocess.run(
        [sys.executable, "-m", "lossmith", "--version"], capture_output=True, text=True
    )
    assert done.stdout == f"lossmith {lossmith.__version__}\n"


def test_a_comparison_prints_its_verdict_and_the_progress_apart(fake, capfd):
    assert compare("--losses", "a,b(k=1)", "--seeds", "2", "--jobs", "1") == 0
    said = capfd.readouterr()
    assert said.out.startswith("2 seeds are not enough to judge b(k=1) against a")
    assert "metric:accuracy|" in said.out
    page = Path(said.out.splitlines()[-1])
    assert page.name == "report.html" and page.parts[0] == "runs" and page.exists()
    assert said.err.count("seed 1") == 2 and "[4/4]" in said.err

    assert compare("--losses", "a,b(k=1)", "--seeds", "2", "--quiet") == 0
    again = capfd.readouterr()
    assert again.out == said.out and again.err == ""


def test_losses_may_be_given_one_by_one_and_settings_by_name(fake, capfd):
    code = compare(
        "--losses", "a", "--losses", "b@epochs=3", "--epochs", "2", "--model", "cnn",
        "--learning-rate", "0.5", "--set", "threads=2", "--metric", "log_loss",
        "--baseline", "b@epochs=3", "--seeds", "3,7", "--out", "here", "--dry-run",
    )  # fmt: skip
    said = capfd.readouterr().out
    assert code == 0
    assert "log_loss (lower is better)" in said and "b@epochs=3 (baseline)" in said
    assert "model=cnn, epochs=2, learning_rate=0.5, threads=2" in said
    assert "3, 7" in said and "here" in said and "4 of 4" in said
    assert not (fake / "here").exists()


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["--losses", "aa,b"], 2, "there is no objective 'aa'"),
        (["--metric", "accurcy"], 2, "Did you mean 'accuracy'?"),
        (["--set", "epoch=3"], 2, "Did you mean 'epochs'?"),
        (["--set", "epochs"], 2, "key=value"),
        (["--user", "u"], 2, "there is no setting 'user'"),
        (["--jobs", "0"], 2, "jobs=0"),
    ],
)
def test_a_users_mistake_is_a_message(fake, capfd, words, code, complaint):
    assert compare(*words) == code
    said = capfd.readouterr()
    assert complaint in said.err and said.out == ""
    assert not (fake / "runs").exists()


def test_trouble_with_the_data_has_its_own_exit_code(fake, capfd):
    assert run(["compare", "classification", "broken.csv"]) == 3
    assert "broken.csv:3, column 'label'" in capfd.readouterr().err


def test_another_plan_in_the_folder_is_refused_with_what_differs(fake, capfd):
    assert compare("--seeds", "1", "--out", "r", "--epochs", "1", "-q") == 0
    assert compare("--seeds", "1", "--out", "r", "--epochs", "2", "-q") == 2
    assert "epochs: 1 there, 2 asked for" in capfd.readouterr().err
    assert compare("--seeds", "1", "--out", "r", "--epochs", "2", "-q", "--fresh") == 0


def test_failed_runs_exit_with_one_and_are_named(fake, capfd):
    assert compare("--seeds", "2", "-q", "--set", "trouble=raise b 1") == 1
    said = capfd.readouterr()
    assert "b, seed 1, failed: ValueError: the loss is on strike" in said.err
    assert "b gave no number for 1 of 2 seeds." in said.out


def test_a_bug_of_ours_is_not_dressed_up_as_a_mistake_of_the_users(fake, monkeypatch):
    def broken(*arguments, **more):
        raise ValueError("a bug")

    monkeypatch.setattr("lossmith.compare.study.execute", broken)
    with pytest.raises(ValueError, match="a bug"):
        compare("--seeds", "1", "-q")


def test_an_interrupt_exits_with_130_and_says_how_to_go_on(fake, capfd, monkeypatch):
    def interrupted(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("lossmith.compare.study.execute", interrupted)
    assert compare("--losses", "a,b(k=1)", "--seeds", "2", "--fresh") == 130
    said = capfd.readouterr().err
    assert "0 of 4 trainings are finished" in said
    assert "lossmith compare classification reviews.csv --losses 'a,b(k=1)' --seeds 2\n" in said


def test_the_catalogue_lists_every_loss(capfd):
    from lossmith.core.spec import objectives

    assert run(["losses"]) == 0
    said = capfd.readouterr().out
    assert all(f"{spec.name} " in said for spec in objectives())


def test_the_catalogue_of_a_family_is_what_its_task_can_train_with(capfd):
    from lossmith.core.spec import objectives
    from lossmith.tasks.registry import load_task

    assert run(["losses", "--for", "tagging"]) == 0
    lines = capfd.readouterr().out.splitlines()
    listed = {line.split()[0] for line in lines if line[:1].strip()}
    fitting = {spec.name for spec in load_task("tagging").fitting()}
    assert {spec.name for spec in objectives()} & listed == fitting


def test_what_a_family_is_compared_with_besides_its_losses_is_named(capfd):
    assert run(["losses", "--for", "retrieval"]) == 0
    said = capfd.readouterr().out
    assert "info_nce" in said and "listnet" in said and "cross_entropy" not in said
    assert "bm25" in said


def test_one_loss_is_explained_in_full(capfd):
    assert run(["losses", "cross_entropy"]) == 0
    said = capfd.readouterr().out
    for part in ("Raise the probability of the right class.", "Formula:", "label_smoothing",
                 "0 to 0.3", "'mean', 'sum', 'none'", "targets not ignored", "softmax loss",
                 "Good 1952", "lm.CrossEntropy"):  # fmt: skip
        assert part in said
    assert ">>>" not in said and "``" not in said


def test_a_loss_is_found_by_another_name_and_a_typo_gets_a_suggestion(capfd):
    assert run(["losses", "max-margin loss"]) == 0
    assert capfd.readouterr().out.startswith("hinge")
    assert run(["losses", "hige"]) == 2
    assert "Did you mean 'hinge'?" in " ".join(capfd.readouterr().err.split())


def test_a_plan_file_is_the_same_as_the_flags_and_a_flag_wins(fake, capfd):
    Path("study.toml").write_text(
        "family = 'classification'\ndata = 'reviews.csv'\nlosses = ['a', 'b(k=1)']\n"
        "seeds = [0, 1]\nout = 'r'\n[settings]\nepochs = 3\n"
    )
    assert run(["compare", "--plan", "study.toml", "-q"]) == 0
    said = capfd.readouterr().out
    assert compare("--losses", "a,b(k=1)", "--seeds", "2", "--epochs", "3", "--out", "s", "-q") == 0
    assert capfd.readouterr().out.replace("s/report", "r/report") == said
    # What a run leaves replays it, to the same folder: nothing is left to train.
    assert run(["compare", "--plan", "r/plan.toml", "--out", "r", "--dry-run"]) == 0
    assert "0 of 4" in capfd.readouterr().out
    assert run(["compare", "--plan", "study.toml", "--epochs", "2", "--out", "t", "--dry-run"]) == 0
    assert "epochs=2" in capfd.readouterr().out
    assert run(["compare", "classification"]) == 2
    assert "DATA" in capfd.readouterr().err
