"""The verdict on records whose answer is known: the first cause, its gain, and no word against a healthy run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from houndsight.records.machine import Machine
from houndsight.records.profiling import cost, outliers
from houndsight.records.profiling.document import document
from houndsight.records.profiling.run import Facts, Run
from houndsight.records.profiling.verdict import judge
from houndsight.records.schema import Span
from houndsight.results import Verdict

from .made import BEGAN, machine_of, run_of, spans

HEALTHY = {"data": 0.002, "copy": 0.001, "forward": 0.03, "backward": 0.06, "optimizer": 0.005, "fit": 0.002}


def verdict(run: Run) -> Verdict:
    found = judge(run)
    assert found is not None
    return found


def test_nothing_is_said_of_a_few_steps() -> None:
    assert judge(run_of(spans(4, forward=1.0))) is None
    assert judge(run_of(spans(100, forward=0.001))) is None
    assert judge(run_of([])) is None


def test_a_healthy_loop_is_not_accused(tmp_path: Path) -> None:
    seen = machine_of(tmp_path, 60, tree=1.0, cpu=0.26, main=0.98, cores=4)
    found = verdict(run_of(spans(300, **HEALTHY), seen, workers=2, batch_size=32, device="cpu", threads=4))
    assert (found.bound, found.cause, found.gain, found.alternatives) == ("compute", "compute", 1.0, ())


@pytest.mark.parametrize(
    ("parts", "bound", "cause", "gain"),
    [
        ({"data": 0.1}, "data", "data_wait", 2.0),
        ({"copy": 0.1}, "copy", "copy", 2.0),
        ({"sync": 0.05}, "host", "sync", 1.5),
        ({"fit": 0.3}, "host", "between_steps", 4.0),
        ({"checkpoint": 0.1}, "host", "checkpoint", 2.0),
        ({"evaluate": 0.2}, "compute", "evaluation", 3.0),
        ({"debugger": 0.05}, "host", "debugger", 1.5),
    ],
)
def test_a_dear_part_is_named_with_amdahl_s_gain(parts: dict[str, float], bound: str, cause: str, gain: float) -> None:
    found = verdict(run_of(spans(100, **{"forward": 0.05, "backward": 0.05} | parts)))
    assert (found.bound, found.cause) == (bound, cause)
    assert found.gain == pytest.approx(gain, rel=0.01)
    assert found.alternatives == ()
    assert found.change
    assert found.assumption


def test_the_profiler_s_own_window_is_not_held_against_the_loop() -> None:
    steps = spans(100, forward=0.05, backward=0.05, fit=0.02)
    assert verdict(run_of(steps)).cause == "between_steps"
    assert verdict(run_of(steps, window_stall=1.5)).cause == "compute"


def test_workers_that_compute_are_bound_by_the_cores() -> None:
    facts: dict[str, Any] = {"workers": 0, "worker_kind": None, "cpu": {"data": 9.0, "forward": 3.0}, "own_loop": True}
    run = run_of(spans(100, data=0.09, forward=0.03), Machine(cores=4, usable=4.0), **facts)
    found = verdict(run)
    assert found.gain == pytest.approx(4.0)
    assert found.change == "num_workers 0 -> 4: estimated 4.0x."
    two = verdict(run_of(spans(100, data=0.09, forward=0.03), Machine(cores=2, usable=2.0), **facts))
    assert two.expected == pytest.approx(2.0)  # 0.12 s of work on two cores


def test_workers_that_wait_may_be_more_than_the_cores() -> None:
    facts: dict[str, Any] = {"workers": 0, "cpu": {"data": 0.1, "forward": 1.0}, "own_loop": True}
    found = verdict(run_of(spans(100, data=0.08, forward=0.01), Machine(cores=2, usable=2.0), **facts))
    assert found.change == "num_workers 0 -> 9: estimated 9.0x."


def test_full_cores_are_not_told_to_take_more_workers(tmp_path: Path) -> None:
    seen = machine_of(tmp_path, 60, tree=1.98, cpu=0.99, cores=2, main=0.4)
    run = run_of(spans(300, data=0.05, forward=0.05), seen, workers=2, worker_kind="threads", batch_size=32)
    found = verdict(run)
    assert found.cause == "data_wait"
    assert found.change.startswith("Make a batch cheaper")
    assert found.settings == {}


def test_the_built_in_loop_s_change_is_a_setting(tmp_path: Path) -> None:
    seen = machine_of(tmp_path, 60, tree=1.4, cpu=0.35, cores=4, main=0.4)
    run = run_of(spans(300, data=0.05, forward=0.05), seen, workers=1, worker_kind="threads", batch_size=32)
    found = verdict(run)
    assert found.change == "--workers 1 -> 3: estimated 2.0x."
    assert found.settings == {"workers": 3}


def test_one_slow_worker_is_told_from_slow_data() -> None:
    waits = [{"worker": at, "batches": 25, "seconds": 5.0 if at == 2 else 0.05} for at in range(4)]
    slow = verdict(run_of(spans(100, data=0.0515, forward=0.05), workers=4, worker_waits=waits))
    assert slow.cause == "slow_worker"
    assert "Data worker 2" in slow.message
    assert slow.gain == pytest.approx(1.95, rel=0.02)
    even = [{"worker": at, "batches": 25, "seconds": 1.25} for at in range(4)]
    assert verdict(run_of(spans(100, data=0.05, forward=0.05), workers=4, worker_waits=even)).cause == "data_wait"


def test_a_tiny_batch_is_what_larger_ones_were_measured_against() -> None:
    facts: dict[str, Any] = {"batch_size": 1, "probe": ((1, 0.010), (32, 0.032)), "own_loop": True}
    found = verdict(run_of(spans(200, forward=0.004, backward=0.006, optimizer=0.002), **facts))
    assert found.cause == "tiny_batch"
    assert found.gain == pytest.approx(0.012 / (0.001 + 0.002 / 32), rel=0.02)
    assert found.settings == {"batch_size": 32}
    fair: dict[str, Any] = {"batch_size": 1, "probe": ((1, 0.010), (32, 0.30)), "own_loop": True}
    assert verdict(run_of(spans(200, forward=0.004, backward=0.006, optimizer=0.0002), **fair)).cause == "compute"


def test_neighbours_are_told_from_own_workers(tmp_path: Path) -> None:
    busy = machine_of(tmp_path / "a", 60, cpu=1.0, cores=2, tree=0.6, main=0.6, waited=0.4)
    found = verdict(run_of(spans(300, **HEALTHY), busy))
    assert (found.cause, found.bound) == ("neighbour", "host")
    assert found.gain == pytest.approx(1 / 0.6, rel=0.01)
    own = machine_of(tmp_path / "b", 60, cpu=1.0, cores=2, tree=1.9, main=0.6, waited=0.4)
    assert verdict(run_of(spans(300, **HEALTHY), own)).cause == "compute"


def test_a_quota_is_named(tmp_path: Path) -> None:
    seen = machine_of(tmp_path, 60, throttled=0.5)
    found = verdict(run_of(spans(300, **HEALTHY), seen))
    assert found.cause == "quota"
    assert found.gain == pytest.approx(2.0, rel=0.01)


def growing(a_step: float, noise: float = 0.0, seed: int = 0) -> Callable[[int], float]:
    rng = np.random.default_rng(seed)
    return lambda at: 1e9 + a_step * 5 * at + noise * float(rng.normal())


def test_memory_that_grows_comes_first_and_says_when_it_ends(tmp_path: Path) -> None:
    seen = machine_of(tmp_path, 60, anonymous=growing(5e6, noise=3e6))
    found = verdict(run_of(spans(300, data=0.08, forward=0.02), seen))
    assert (found.bound, found.cause, found.gain) == ("memory", "memory_growth", 1.0)
    assert found.evidence["bytes_per_step"] == pytest.approx(5e6, rel=0.05)
    assert found.evidence["steps_until_full"] == pytest.approx(8e9 / 5e6, rel=0.05)
    assert found.alternatives[0].cause == "data_wait"


@pytest.mark.parametrize("seed", range(5))
def test_memory_that_goes_up_and_down_is_no_leak(tmp_path: Path, seed: int) -> None:
    seen = machine_of(tmp_path, 60, anonymous=growing(0.0, noise=3e8, seed=seed))
    assert verdict(run_of(spans(300, **HEALTHY), seen)).cause == "compute"
    filling = machine_of(tmp_path / "filling", 60, anonymous=lambda at: 1e9 + 2e9 * min(1.0, at / 15))
    assert verdict(run_of(spans(300, **HEALTHY), filling)).cause == "compute"


def test_a_gpu_that_the_model_never_moved_to(tmp_path: Path) -> None:
    seen = machine_of(tmp_path, 60, gpus=lambda at: [(0.0, 0.0)])
    facts: dict[str, Any] = {"device": "cpu", "gpu_usable": True, "own_loop": True, "threads": 4}
    found = verdict(run_of(spans(300, **HEALTHY), seen, **facts, flop_rate=1e11, gpu_flop_rate=2e13))
    assert (found.bound, found.cause) == ("idle", "gpu_unused")
    assert found.gain == pytest.approx(0.1 / (0.1 - 0.095 * (1 - 1 / 200)), rel=0.01)
    assert "Test GPU" in found.message
    moved = run_of(spans(300, **HEALTHY), seen, device="cuda", gpu_usable=True)
    assert verdict(moved).cause == "compute"
    unusable = run_of(spans(300, **HEALTHY), seen, **{**facts, "gpu_usable": False})
    assert verdict(unusable).cause == "compute"


def test_cores_that_stand_idle(tmp_path: Path) -> None:
    seen = machine_of(tmp_path, 60, cpu=0.25, cores=4, tree=1.0, main=1.0)
    found = verdict(run_of(spans(300, **HEALTHY), seen, device="cpu", threads=1))
    assert (found.bound, found.cause, found.settings) == ("idle", "idle_cores", {"threads": 4})


def test_outliers_are_attributed_to_what_happened_then(tmp_path: Path) -> None:
    steps = []
    now = BEGAN
    for step in range(300):
        slow = {50: ("backward", 1.0), 100: ("data", 2.0), 200: ("forward", 3.0), 250: ("forward", 1.0)}.get(step)
        for name, seconds in (("data", 0.01), ("forward", 0.04), ("backward", 0.05)):
            length = seconds + (slow[1] if slow and slow[0] == name else 0.0)
            steps.append(Span(name, step, now, length))
            now += length
    at = {each.step: each.start for each in steps if each.name == "data"}
    steps.append(Span("gc", 0, at[50] + 0.1, 0.9))
    swapping = machine_of(tmp_path, 80, swap=lambda sample: 0.0)
    swapping.swap[(swapping.time > at[200]) & (swapping.time < at[201])] = 500.0
    found = outliers.find(run_of(steps, swapping))
    assert {each.step: (each.cause, each.part) for each in found} == {
        50: ("gc", "backward"),
        100: ("data", "data"),
        200: ("swap", "forward"),
        250: ("unknown", "forward"),
    }
    assert found[0].excess == pytest.approx(3.0, rel=0.01)
    said = outliers.finding(run_of(steps, swapping), found)
    assert said is not None
    assert said.repair.startswith("Take a smaller batch")


def test_energy_and_cost(tmp_path: Path) -> None:
    run = run_of(spans(300, forward=0.1), machine_of(tmp_path, 60, gpus=lambda at: [(50.0, 1e9)]))
    run.machine.gpu[:, 0, 4] = np.linspace(1000.0, 3000.0, 60)
    priced = Run(run.timeline, run.machine, Facts(instance_type="ml.g4dn.xlarge"))
    found = cost.document(priced)
    assert found is not None
    assert found["gpu_joules"] == pytest.approx(2000.0)
    assert found["gpu_joules_per_step"] == pytest.approx(2000.0 / 300)
    assert found["cost"] == pytest.approx(0.736 * 30 / 3600, rel=0.01)
    run.machine.gpu[:, 0, 4] = np.nan  # an old card without a meter: 50 W for 30 s
    assert cost.gpu_joules(run) == pytest.approx(1500.0)
    assert cost.document(run_of(spans(300, forward=0.1))) is None


def test_the_document_says_all_of_it(tmp_path: Path) -> None:
    run = run_of(spans(300, **HEALTHY), machine_of(tmp_path, 60), batch_size=32, flops_per_step=1e9, flop_rate=1e11)
    found = document(run)
    assert sum(each["share"] for each in found["phases"]) == pytest.approx(1.0)
    assert found["steps"]["count"] == 300
    assert found["steps"]["images_per_second"] == pytest.approx(320.0, rel=0.01)
    assert found["flops"]["share"] == pytest.approx(0.1, rel=0.01)
    assert {each["status"] for each in found["findings"]} <= {"NoIssuesFound", "NotApplicable"}
    assert len(found["findings"]) == 11
