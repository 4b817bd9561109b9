"""SageMaker's eleven rules on recorded traces: exactly what each counts, and that its known defect is gone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from houndsight.records.machine import Machine
from houndsight.records.profiling import report, rules, rules_gpu, rules_loop
from houndsight.records.profiling.run import Run
from houndsight.records.schema import Span

from .made import BEGAN, machine_of, run_of, spans

GB = 1e9
LOOP = spans(600, data=0.01, forward=0.03, backward=0.05, optimizer=0.01)  # 60 s
GPU_RULES = ("BatchSize", "CPUBottleneck", "GPUMemoryIncrease", "IOBottleneck", "LoadBalancing", "LowGPUUtilization")


def gpu_run(folder: Path, use: Any, samples: int = 120, **rates: Any) -> Run:
    """One minute of samples; `use(at)` gives (utilisation, bytes) of each GPU."""
    return run_of(LOOP, machine_of(folder, samples, gpus=use, **rates))


def test_without_a_gpu_every_rule_on_gpus_says_so(tmp_path: Path) -> None:
    reports = {each.rule: each for each in rules.evaluate(run_of(LOOP, machine_of(tmp_path, 120)))}
    assert list(reports) == list(rules.RULES)
    assert {name for name, each in reports.items() if each.status == "NotApplicable"} == {*GPU_RULES, "Dataloader"}
    assert all("no GPU" in reports[name].message for name in GPU_RULES)
    assert all(each.triggered == 0 for each in reports.values())


def test_rules_speak_from_the_20th_second(tmp_path: Path) -> None:
    idle = [(0.0, GB)]
    early = gpu_run(tmp_path / "a", lambda at: idle, samples=40)
    assert rules_gpu.low_gpu_utilization(early).status == "NotApplicable"
    late = gpu_run(tmp_path / "b", lambda at: idle, samples=41)
    assert rules_gpu.low_gpu_utilization(late).status == "IssuesFound"
    patient = rules_gpu.low_gpu_utilization(late, patience=1000)  # SageMaker's own patience: silent for 500 s
    assert patient.status == "NotApplicable"


def test_low_gpu_utilization(tmp_path: Path) -> None:
    found = rules_gpu.low_gpu_utilization(gpu_run(tmp_path / "low", lambda at: [(30.0, GB)]))
    assert (found.triggered, found.violations, found.datapoints) == (1, 80, 80)
    assert found.details["algo-1"]["gpu0"]["gpu_95"] == 30.0
    busy = rules_gpu.low_gpu_utilization(gpu_run(tmp_path / "busy", lambda at: [(95.0, GB)]))
    assert (busy.status, busy.violations) == ("NoIssuesFound", 0)
    wavy = rules_gpu.low_gpu_utilization(gpu_run(tmp_path / "wavy", lambda at: [(100.0 * (at % 2), GB)]))
    assert wavy.status == "IssuesFound"
    assert "up and down between 0 and 100 %" in wavy.message
    unused = rules_gpu.low_gpu_utilization(gpu_run(tmp_path / "unused", lambda at: [(0.0, GB)]))
    assert "GPU 0 was never used" in unused.message


def test_cpu_bottleneck_asks_for_the_training_s_own_thread(tmp_path: Path) -> None:
    starving = rules_gpu.cpu_bottleneck(gpu_run(tmp_path / "a", lambda at: [(5.0, GB)], main=0.98))
    assert (starving.status, starving.violations, starving.datapoints) == ("IssuesFound", 80, 80)
    assert starving.details["low_gpu_utilization"] == 80
    assert len(starving.details["bottlenecks"]) == 41  # as many different seconds
    # One core of four is full, but it is not the training's: SageMaker's rule counts it.
    other = rules_gpu.cpu_bottleneck(gpu_run(tmp_path / "b", lambda at: [(5.0, GB)], main=0.2, tree=0.3, cpu=0.95))
    assert (other.status, other.violations) == ("NoIssuesFound", 0)
    workers = rules_gpu.cpu_bottleneck(gpu_run(tmp_path / "c", lambda at: [(5.0, GB)], main=0.2, tree=3.9))
    assert workers.status == "IssuesFound"
    busy_gpu = rules_gpu.cpu_bottleneck(gpu_run(tmp_path / "d", lambda at: [(90.0, GB)], main=0.98))
    assert (busy_gpu.violations, busy_gpu.details["low_gpu_utilization"]) == (0, 0)


def test_io_bottleneck_sees_waits_that_busy_cores_hide(tmp_path: Path) -> None:
    waiting = rules_gpu.io_bottleneck(gpu_run(tmp_path / "a", lambda at: [(5.0, GB)], iowait=0.8))
    assert (waiting.status, waiting.violations) == ("IssuesFound", 80)
    hidden = rules_gpu.io_bottleneck(gpu_run(tmp_path / "b", lambda at: [(5.0, GB)], iowait=0.0, io=0.7))
    assert (hidden.status, hidden.violations) == ("IssuesFound", 80)
    healthy = rules_gpu.io_bottleneck(gpu_run(tmp_path / "c", lambda at: [(5.0, GB)]))
    assert (healthy.status, healthy.violations) == ("NoIssuesFound", 0)


def test_batch_size(tmp_path: Path) -> None:
    run = gpu_run(tmp_path, lambda at: [(40.0, 2 * GB)], cpu=0.3)
    found = rules_gpu.batch_size(run)
    assert (found.triggered, found.violations, found.datapoints) == (1, 80, 80)
    assert found.details["algo-1"]["gpu0_memory"]["p95"] == pytest.approx(20.0)
    measured = Run(run.timeline, run.machine, run.facts.model_copy(update={"probe": ((8, 0.8), (32, 3.2))}))
    assert rules_gpu.batch_size(measured).status == "NoIssuesFound"  # larger batches were tried and win nothing
    assert rules_gpu.batch_size(gpu_run(tmp_path / "b", lambda at: [(90.0, 2 * GB)])).status == "NoIssuesFound"


@pytest.mark.parametrize("rise", [0.6, 2.0])
def test_gpu_memory_increase_finds_jumps_and_slow_leaks(tmp_path: Path, rise: float) -> None:
    """A jump of 6 or 20 points: SageMaker's formula saw at most a fifth of it, and never a leak."""
    jump = rules_gpu.gpu_memory_increase(gpu_run(tmp_path / "jump", lambda at: [(90.0, (2 + rise * (at > 80)) * GB)]))
    assert jump.status == "IssuesFound"
    assert jump.details["algo-1"]["gpu0"]["increase"] == pytest.approx(10 * rise)
    leak = rules_gpu.gpu_memory_increase(gpu_run(tmp_path / "leak", lambda at: [(90.0, (2 + rise * at / 70) * GB)]))
    assert leak.status == "IssuesFound"
    assert leak.details["algo-1"]["gpu0"]["increase"] == pytest.approx(10 * rise)


def test_gpu_memory_that_stays_is_no_increase(tmp_path: Path) -> None:
    found = rules_gpu.gpu_memory_increase(gpu_run(tmp_path, lambda at: [(90.0, (2 + 0.1 * (at % 3)) * GB)]))
    assert (found.status, found.violations, found.datapoints) == ("NoIssuesFound", 0, 80)


def test_load_balancing_compares_every_pair(tmp_path: Path) -> None:
    uneven = rules_gpu.load_balancing(gpu_run(tmp_path / "a", lambda at: [(99.0, GB), (99.0, GB), (20.0, GB)]))
    assert (uneven.status, uneven.violations) == ("IssuesFound", 2)
    assert "GPU 0 and GPU 2" in uneven.message
    assert f"{np.sqrt(np.log(2)):.2f}" in uneven.message
    assert uneven.details["algo-1"]["workloads"]["gpu0"][-1] == 80  # 99 % is counted
    even = rules_gpu.load_balancing(gpu_run(tmp_path / "b", lambda at: [(99.0, GB), (99.0, GB)]))
    assert (even.status, even.violations) == ("NoIssuesFound", 0)
    assert rules_gpu.load_balancing(gpu_run(tmp_path / "c", lambda at: [(99.0, GB)])).status == "NotApplicable"


def test_dataloader_asks_for_workers_only_where_the_loop_waits() -> None:
    waits = spans(600, data=0.05, forward=0.05)
    few = rules_loop.dataloader(run_of(waits, _four(), workers=0, worker_kind="processes"))
    assert (few.status, few.triggered, few.repair) == ("IssuesFound", 1, "num_workers 0 -> 4.")
    assert few.details["dataloading_time"]["p50"] == pytest.approx(0.05)
    assert few.details["num_workers"] == 0
    assert rules_loop.dataloader(run_of(LOOP, _four(), workers=0)).status == "NoIssuesFound"
    many = rules_loop.dataloader(run_of(LOOP, _four(), workers=9, worker_kind="threads"))
    assert (many.status, many.repair) == ("IssuesFound", "--workers 9 -> 4.")
    assert rules_loop.dataloader(run_of(spans(100, forward=0.1), _four(), workers=0)).status == "NotApplicable"


def _four() -> Machine:
    return Machine(cores=4, usable=4.0)


def test_max_initialization_time() -> None:
    late = [Span("decode", 0, BEGAN, 1500.0), *spans(600, BEGAN + 1500, forward=0.1)]
    found = rules_loop.max_initialization_time(run_of(late))
    assert (found.status, found.triggered) == ("IssuesFound", 1)
    assert found.details["job_start"] == BEGAN
    assert found.details["step_num"]["first"] == pytest.approx(1e6 * (BEGAN + 1500))
    assert rules_loop.max_initialization_time(run_of(late), threshold=26).status == "NoIssuesFound"
    never = rules_loop.max_initialization_time(run_of([Span("decode", 0, BEGAN, 1500.0)]))
    assert never.status == "IssuesFound"
    assert "step_num" not in never.details


def outlying(every: int, longer: float, steps: int = 600) -> list[Span]:
    rng = np.random.default_rng(0)
    found, now = [], BEGAN
    for step in range(steps):
        seconds = 0.1 * rng.normal(1.0, 0.03) * (longer if step % every == every - 1 else 1.0)
        found.append(Span("forward", step, now, seconds))
        now += seconds
    return found


def test_step_outlier_is_not_blinded_by_the_outliers() -> None:
    # A fifth of the steps takes 3 times as long: their own standard deviation hides all of them from SageMaker's rule.
    run = run_of(outlying(5, 3.0))
    each = run.loop.each()
    assert (each > each.mean() + 3 * each.std()).sum() == 0
    found = rules_loop.step_outlier(run)
    assert (found.status, found.violations, found.datapoints) == ("IssuesFound", 120, 597)
    (detail,) = found.details["step_details"].values()
    assert detail["step_numbers"] == list(range(4, 600, 5))
    assert len(detail["probs"]) == 100
    assert len(detail["binedges"]) == 101


def test_step_outlier_does_not_accuse_a_long_healthy_run() -> None:
    run = run_of(outlying(1_000_000, 1.0, steps=20_000))
    each = run.loop.each()
    assert (each > each.mean() + 3 * each.std()).sum() > 10  # where SageMaker's rule fires
    assert rules_loop.step_outlier(run).violations == 0


def test_overall_rules_never_fire(tmp_path: Path) -> None:
    run = run_of([*LOOP, Span("evaluate", 0, BEGAN + 60, 20.0)], machine_of(tmp_path, 120, cpu=0.5))
    framework = rules_loop.overall_framework_metrics(run)
    assert framework.triggered == 0
    assert framework.details["phase"]["Step:ModeKeys.TRAIN"] == pytest.approx(75.0)
    assert framework.details["phase"]["Step:ModeKeys.EVAL"] == pytest.approx(25.0)
    assert framework.details["general"]["Forward"] == pytest.approx(18e6)
    system = rules_loop.overall_system_usage(run)
    assert system.details["CPU"]["algo-1"]["p50"] == pytest.approx(50.0, abs=0.1)
    assert system.details["CPU memory"]["algo-1"]["max"] == pytest.approx(50.0)
    assert system.details["GPU"] == {}


def test_reports_have_sagemaker_s_shape(tmp_path: Path) -> None:
    run = gpu_run(tmp_path / "records", lambda at: [(30.0, GB)])
    for each in rules.evaluate(run):
        report.write(tmp_path, each)
        written = json.loads((tmp_path / f"{each.rule}.json").read_text())
        assert list(written) == ["RuleTriggered", "Violations", "Details", "Datapoints", "RuleParameters"]
    low = json.loads((tmp_path / "LowGPUUtilization.json").read_text())
    assert low["RuleParameters"] == "threshold_p95:70\nthreshold_p5:10\nwindow:500\npatience:40"
    names = [report.snake_case(each) for each in rules.RULES]
    assert names[1:3] == ["cpu_bottleneck", "dataloader"]
    assert "low_gpu_utilization" in names
    assert "io_bottleneck" in names
