"""On a real Ray cluster of two nodes, which are two sets of Ray processes on this machine."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from fake_run import run_one
from fake_study import study
from test_execute import Diary

from lossmith.compare.cluster import execute_on_ray
from lossmith.compare.plan import PlanError
from lossmith.training.job import Job
from lossmith.training.run import run_job

ray = pytest.importorskip("ray", reason="needs the optional extra lossmith[ray]")
# Ray's own code opens sockets and files that it leaves to the interpreter to close.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

NODE = {
    "num_cpus": 1, "object_store_memory": 80 * 1024 * 1024, "node_ip_address": "127.0.0.2"
}  # fmt: skip


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    # The workers unpickle the fake training by its name.
    here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", here)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        made.add_node(**NODE)
        yield made
        made.shutdown()


def carried_out(cluster, tmp_path, jobs=None, **asked):
    diary = Diary()
    runs = study(tmp_path, **asked).plan.runs()
    execute_on_ray(runs, run_one, address=cluster.address, jobs=jobs, watch=diary)
    return diary, runs


@pytest.mark.parametrize("jobs", [None, 1])
def test_every_run_comes_back_with_what_it_gives_alone(cluster, tmp_path, jobs):
    diary, runs = carried_out(cluster, tmp_path, jobs)
    assert diary.done == {run.key: run_one(run.job) for run in runs}
    assert set(diary.begun) == {run.key for run in runs} and not diary.lost


def test_a_real_training_gives_the_same_numbers_as_here(cluster, tmp_path):
    data = tmp_path / "reviews.csv"
    rows = [f"word{i} {'good' if i % 2 else 'bad'},{i % 2}" for i in range(120)]
    data.write_text("text,label\n" + "\n".join(rows) + "\n")
    job = Job("classification", str(data), "binary_cross_entropy", 3, {"epochs": 2})
    run = study(tmp_path).plan.runs()[0]
    diary = Diary()
    execute_on_ray(
        [type(run)(run.arm, job)], run_job, address=cluster.address, jobs=None, watch=diary
    )
    (outcome,) = diary.done.values()
    here = run_job(job)
    assert [(e.train_loss, e.valid, e.test) for e in outcome.epochs] == [
        (e.train_loss, e.valid, e.test) for e in here.epochs
    ]


def test_a_failed_run_is_reported_and_the_others_go_on(cluster, tmp_path):
    diary, runs = carried_out(cluster, tmp_path, trouble="raise b 1")
    assert diary.lost.keys() == {("b", 1)} and len(diary.done) == len(runs) - 1
    reason, details = diary.lost["b", 1]
    assert reason == "ValueError: the loss is on strike" and "Traceback" in details


def test_a_killed_worker_costs_nothing(cluster, tmp_path):
    log = tmp_path / "log"
    log.touch()
    diary, runs = carried_out(cluster, tmp_path, trouble="kill-once b 1", log=str(log))
    assert diary.done == {run.key: run_one(quiet(run.job)) for run in runs} and not diary.lost
    assert sum(line.startswith("b 1 ") for line in log.read_text().splitlines()) == 2


def test_a_training_that_always_dies_is_given_up(cluster, tmp_path):
    diary, runs = carried_out(cluster, tmp_path, trouble="kill b 1")
    assert diary.lost.keys() == {("b", 1)} and len(diary.done) == len(runs) - 1
    assert "was killed 2 times" in diary.lost["b", 1][0]


def test_a_machine_that_goes_away_in_the_middle_loses_nothing(cluster, tmp_path):
    extra = cluster.add_node(**{**NODE, "num_cpus": 2})

    class Unplug(Diary):
        def epoch(self, run, epoch, total):
            super().epoch(run, epoch, total)
            if len(self.epochs) == 1:
                cluster.remove_node(extra, allow_graceful=False)

    diary = Unplug()
    runs = study(tmp_path, seeds=4, delay=0.3).plan.runs()
    execute_on_ray(runs, run_one, address=cluster.address, jobs=None, watch=diary)
    assert diary.done == {run.key: run_one(quiet(run.job)) for run in runs} and not diary.lost


def test_an_interrupt_cancels_what_runs_and_keeps_what_is_finished(cluster, tmp_path):
    class Stop(Diary):
        def finished(self, run, outcome):
            super().finished(run, outcome)
            raise KeyboardInterrupt

    log, diary = tmp_path / "log", Stop()
    runs = study(tmp_path, seeds=20, delay=0.2, log=str(log)).plan.runs()
    with pytest.raises(KeyboardInterrupt):
        execute_on_ray(runs, run_one, address=cluster.address, jobs=2, watch=diary)
    assert len(diary.done) == 1
    begun = len(log.read_text().splitlines())
    time.sleep(2)
    assert len(log.read_text().splitlines()) == begun < len(runs)


def test_the_same_report_as_with_local_processes(cluster, tmp_path):
    near = study(tmp_path / "near").run(quiet=True)
    far = study(tmp_path / "far").run(executor="ray", address=cluster.address, quiet=True)
    assert far.outcomes == near.outcomes and far.verdict == near.verdict


def test_an_address_where_nothing_answers_is_a_message(tmp_path):
    with pytest.raises(PlanError, match="no Ray cluster answers"):
        execute_on_ray([], run_one, address="127.0.0.1:1", jobs=None, watch=Diary())


def quiet(job):
    """The same training without what is not part of its numbers."""
    return Job(
        job.family, job.data, job.loss, job.seed,
        {**job.settings, "trouble": "", "delay": 0, "log": ""},
    )  # fmt: skip
