"""The rules of SageMaker's profiler that look at GPUs; on a machine without one each says NotApplicable.

They speak from the 20th second on. `patience` is the number of samples that are passed over at the start, as with
SageMaker; its default is 20 seconds' worth instead of 1000 samples.
"""

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from houndsight.records.machine import Series
from houndsight.records.profiling.report import SECONDS, Report
from houndsight.records.profiling.run import Run

NODE = "algo-1"
"""What SageMaker calls the first machine."""


def not_applicable(rule: str, reason: str, parameters: dict[str, Any]) -> Report:
    """The rule lacks what it needs."""
    return Report(rule, "NotApplicable", reason, parameters=parameters)


def missing(run: Run, patience: int | None) -> tuple[str, int]:
    """(why a GPU rule cannot speak or "", samples that are passed over)."""
    machine = run.machine
    skipped = patience if patience is not None else _patience(run)
    if not machine.gpus:
        return "There is no GPU on this machine.", skipped
    if len(machine) <= skipped:
        return (
            f"The run was sampled {len(machine)} times, no more than the first {skipped} that are passed over.",
            skipped,
        )
    return "", skipped


def _patience(run: Run) -> int:
    interval = run.machine.interval or 0.5
    return round(SECONDS / interval)


def percentiles(values: Series) -> dict[str, float]:
    """A box plot: quartiles, 95 %, and the whiskers at one and a half times the box."""
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return {}
    low, middle, high, most = np.percentile(known, (25, 50, 75, 95))
    reach = 1.5 * (high - low)
    return {
        "p25": float(low),
        "p50": float(middle),
        "p75": float(high),
        "p95": float(most),
        "upper": float(min(known.max(), high + reach)),
        "lower": float(max(known.min(), low - reach)),
    }


def _memory_share(run: Run) -> Series:
    """Percent of each GPU's memory in use, (n, gpus)."""
    total = np.array([each["memory"] for each in run.machine.gpus], dtype=float)
    return np.asarray(100 * run.machine.of_gpus("memory_used") / total)


def batch_size(
    run: Run,
    cpu_threshold_p95: float = 70,
    gpu_threshold_p95: float = 70,
    gpu_memory_threshold_p95: float = 70,
    patience: int | None = None,
    window: int = 500,
) -> Report:
    """Cores, GPUs and GPU memory are all little used: the batch may be too small.

    Repaired: nvidia-smi's utilisation says that some kernel ran, not that it filled the GPU; where larger batches were
    measured (the probe) and brought nothing, the rule stays silent.
    """
    reason, skipped = missing(run, patience)
    parameters = {
        "cpu_threshold_p95": cpu_threshold_p95,
        "gpu_threshold_p95": gpu_threshold_p95,
        "gpu_memory_threshold_p95": gpu_memory_threshold_p95,
        "patience": skipped,
        "window": window,
    }
    if reason:
        return not_applicable("BatchSize", reason, parameters)
    cpu = 100 * run.machine.cpu.mean(axis=1)[skipped:]
    gpu, memory = run.machine.of_gpus("utilisation")[skipped:], _memory_share(run)[skipped:]
    low = (cpu < cpu_threshold_p95) & (gpu < gpu_threshold_p95).all(axis=1)
    low &= (memory < gpu_memory_threshold_p95).all(axis=1)
    last = slice(-window, None)
    fired = (
        _p95(cpu[last]) < cpu_threshold_p95
        and max(_p95(each) for each in gpu[last].T) < gpu_threshold_p95
        and max(_p95(each) for each in memory[last].T) < gpu_memory_threshold_p95
        and not _larger_is_no_faster(run)
    )
    detail: dict[str, Any] = {"cpu": percentiles(cpu)}
    for at in range(gpu.shape[1]):
        detail |= {f"gpu{at}": percentiles(gpu[:, at]), f"gpu{at}_memory": percentiles(memory[:, at])}
    size = run.facts.batch_size
    return Report(
        "BatchSize",
        "IssuesFound" if fired else "NoIssuesFound",
        "Cores, GPUs and GPU memory are little used." if fired else "Cores, GPU or GPU memory are in use.",
        f"Double the batch{f' ({size} -> {2 * size})' if size else ''} until the GPU is busy." if fired else "",
        int(fired),
        int(low.sum()),
        len(low),
        parameters,
        {NODE: detail, "last_timestamp": _last(run)},
    )


def _larger_is_no_faster(run: Run) -> bool:
    probe = sorted(run.facts.probe)
    return len(probe) > 1 and probe[-1][1] / probe[-1][0] > 0.9 * probe[0][1] / probe[0][0]


def _p95(values: Series) -> float:
    known = values[np.isfinite(values)]
    return float(np.percentile(known, 95)) if len(known) else float("inf")


def _last(run: Run) -> int:
    return int(1e6 * run.machine.time[-1])


def cpu_bottleneck(
    run: Run, threshold: float = 50, gpu_threshold: float = 10, cpu_threshold: float = 90, patience: int | None = None
) -> Report:
    """The GPU starves while the CPU is the busy one.

    Repaired: one busy core of 96 no longer counts; what counts is that the training's own thread is busy, or that the
    cores it may use are, on the whole.
    """
    own = 100 * np.nan_to_num(run.machine.main)
    cores = 100 * run.machine.tree / max(run.cores, 1e-9)
    busy = np.maximum(own, cores) > cpu_threshold if len(run.machine) else np.zeros(0, bool)
    return _starving(
        run,
        "CPUBottleneck",
        busy,
        patience,
        {"threshold": threshold, "cpu_threshold": cpu_threshold, "gpu_threshold": gpu_threshold},
        "the CPU was busy",
        "More data workers (num_workers) and prefetching; less work between the steps.",
    )


def io_bottleneck(
    run: Run, threshold: float = 50, io_threshold: float = 50, gpu_threshold: float = 10, patience: int | None = None
) -> Report:
    """The GPU starves while something waits for a disk.

    Repaired: I/O wait is 0 where cores have other work; the kernel's own count of tasks that wait for a disk (pressure)
    is taken as well.
    """
    machine = run.machine
    wait = 100 * machine.iowait.max(axis=1) if len(machine) else np.zeros(0)
    if len(machine):
        wait = np.maximum(wait, 100 * np.nan_to_num(machine.pressure[:, 2]))
    return _starving(
        run,
        "IOBottleneck",
        wait > io_threshold,
        patience,
        {"threshold": threshold, "io_threshold": io_threshold, "gpu_threshold": gpu_threshold},
        "something waited for a disk",
        "Copy the data to a local disk, or store it in fewer, larger files; more workers read ahead.",
    )


def _starving(
    run: Run,
    rule: str,
    culprit: NDArray[np.bool_],
    patience: int | None,
    parameters: dict[str, Any],
    happened: str,
    repair: str,
) -> Report:
    """`culprit` holds in samples in which a GPU idles; fires where that is so in more than `threshold` % of samples."""
    reason, skipped = missing(run, patience)
    parameters = {**parameters, "patience": skipped}
    if reason:
        return not_applicable(rule, reason, parameters)
    low = (run.machine.of_gpus("utilisation") < parameters["gpu_threshold"]).any(axis=1)[skipped:]
    both = low & culprit[skipped:]
    share = 100 * both.mean()
    fired = bool(share > parameters["threshold"])
    when = run.machine.time[skipped:][both][:1000]
    return Report(
        rule,
        "IssuesFound" if fired else "NoIssuesFound",
        f"In {share:.0f} % of the samples a GPU was idle while {happened}.",
        repair if fired else "",
        int(fired),
        int(both.sum()),
        len(both),
        parameters,
        {
            "low_gpu_utilization": int(low.sum()),
            "bottlenecks": {
                str(int(each)): {"GPUs": len(run.machine.gpus), "CPUs": run.machine.cores} for each in when
            },
        },
    )


def gpu_memory_increase(run: Run, increase: float = 5, window: int = 10, patience: int | None = None) -> Report:
    """GPU memory grows by more than `increase` points of per cent.

    Repaired: two windows that follow each other are compared, not one with itself a sample earlier (there a jump had to
    exceed 25 points to count as 5); and a slow leak counts, by the rise from the first window to the last.
    """
    reason, skipped = missing(run, patience)
    parameters = {"increase": increase, "patience": skipped, "window": window}
    if reason:
        return not_applicable("GPUMemoryIncrease", reason, parameters)
    memory = _memory_share(run)[skipped:]
    if len(memory) < 2 * window:
        return not_applicable("GPUMemoryIncrease", f"Fewer than two windows of {window} samples.", parameters)
    means = np.stack(
        [np.convolve(each, np.full(window, 1 / window), "valid") for each in memory.T]
    )  # (gpus, n - w + 1)
    jumps = means[:, window:] - means[:, :-window]
    risen = means[:, -1] - means[:, 0]
    violations = int((jumps > increase).any(axis=0).sum())
    most = float(max(jumps.max(), risen.max()))
    fired = most > increase
    details = {
        f"gpu{at}": {
            **percentiles(each),
            "increase": float(max(jumps[at].max(), risen[at])),
            "gpu_max": float(each.max()),
            "p05": float(np.percentile(each, 5)),
        }
        for at, each in enumerate(memory.T)
    }
    return Report(
        "GPUMemoryIncrease",
        "IssuesFound" if fired else "NoIssuesFound",
        f"GPU memory grew by {most:.1f} points of per cent.",
        "Keep no tensor with its history (loss.item(), .detach()); where the memory is nearly full, a smaller batch."
        if fired
        else "",
        int(fired),
        violations if violations or not fired else 1,
        len(memory),
        parameters,
        {NODE: details, "last_timestamp": _last(run)},
    )


def load_balancing(run: Run, threshold: float = 0.2, patience: int | None = None) -> Report:
    """Two GPUs are used differently: the distance (square root of the Jensen-Shannon divergence) of their histograms.

    Repaired: every pair is compared, not the last GPU with itself; 98 to 100 % are counted as well.
    """
    reason, skipped = missing(run, patience)
    parameters = {"threshold": threshold, "patience": skipped}
    if not reason and len(run.machine.gpus) < 2:
        reason = "One GPU has none to share its work with."
    if reason:
        return not_applicable("LoadBalancing", reason, parameters)
    use = run.machine.of_gpus("utilisation")[skipped:]
    counts = np.stack([np.histogram(each[np.isfinite(each)], np.linspace(0, 100, 51))[0] for each in use.T])
    distances = {
        (one, other): _distance(counts[one], counts[other]) for one, other in combinations(range(len(counts)), 2)
    }
    (one, other), most = max(distances.items(), key=lambda each: each[1])
    fired = most > threshold
    return Report(
        "LoadBalancing",
        "IssuesFound" if fired else "NoIssuesFound",
        f"GPU {one} and GPU {other} are used most differently: a distance of {most:.2f}.",
        "Give each GPU as many samples (DistributedDataParallel), and look at what the first one does besides."
        if fired
        else "",
        int(fired),
        sum(distance > threshold for distance in distances.values()),
        len(use),
        parameters,
        {NODE: {"workloads": {f"gpu{at}": each.tolist() for at, each in enumerate(counts)}}},
    )


def _distance(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Jensen-Shannon distance of two histograms, natural logarithm: 0 for equal ones, sqrt(ln 2) for disjoint ones."""
    p, q = one / max(one.sum(), 1), other / max(other.sum(), 1)
    middle = (p + q) / 2

    def against(part: NDArray[np.float64]) -> float:
        seen = part > 0
        return float((part[seen] * np.log(part[seen] / middle[seen])).sum())

    return float(np.sqrt(max(0.0, (against(p) + against(q)) / 2)))


def low_gpu_utilization(
    run: Run, threshold_p95: float = 70, threshold_p5: float = 10, window: int = 500, patience: int | None = None
) -> Report:
    """A GPU is little used, or its use goes up and down.

    Repaired: a GPU on which this run never took memory is named as unused rather than as little used.
    """
    reason, skipped = missing(run, patience)
    parameters = {"threshold_p95": threshold_p95, "threshold_p5": threshold_p5, "window": window, "patience": skipped}
    if reason:
        return not_applicable("LowGPUUtilization", reason, parameters)
    use = run.machine.of_gpus("utilisation")[skipped:]
    details, said, violations = {}, [], 0
    for at, each in enumerate(use.T):
        last = each[-window:][np.isfinite(each[-window:])]
        if len(last) == 0:
            continue
        high, low = (float(np.percentile(last, share)) for share in (95, 5))
        details[f"gpu{at}"] = {**percentiles(each), "gpu_max": float(last.max()), "gpu_95": high, "gpu_5": low}
        violations += int((last < threshold_p95).sum())
        if high < threshold_p95:
            said.append(f"GPU {at} was {'never used' if last.max() == 0 else f'at {high:.0f} % in its best moments'}")
        elif low < threshold_p5:
            said.append(f"the use of GPU {at} went up and down between {low:.0f} and {high:.0f} %")
    return Report(
        "LowGPUUtilization",
        "IssuesFound" if said else "NoIssuesFound",
        ("; ".join(said) + ".")[:1].upper() + ("; ".join(said) + ".")[1:] if said else "The GPUs were in use.",
        "Look at what each step waits for (the verdict names it): data, copies, .item(), or a batch that is too small."
        if said
        else "",
        int(bool(said)),
        violations if said else 0,
        use.size,
        parameters,
        {NODE: details, "last_timestamp": _last(run)},
    )
