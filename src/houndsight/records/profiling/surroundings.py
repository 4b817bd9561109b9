"""What the machine around a training does to its speed: neighbours, quotas, memory, cores and GPUs left idle."""

import numpy as np

from houndsight.records.profiling.candidates import WORTH, wasted
from houndsight.records.profiling.run import Run
from houndsight.results import Verdict

_BUSY = 0.25  # cores' worth of others' work from which they count as neighbours
_LEAK = 100e6  # bytes of growth below which nothing is said
_LEAK_STEP = 1e6  # bytes a step
_PAGES = 100.0  # pages swapped a second


def neighbour(run: Run) -> Verdict | None:
    """Other processes, or other guests of the host, take the cores that the training is ready to use."""
    machine = run.machine
    waited, others = run.mean(machine.waited), run.mean(machine.others)
    stolen = run.mean(machine.stolen) or 0.0
    if waited is None or others is None or (run.facts.device not in (None, "cpu") and waited < 0.3):
        return None
    tree, main = run.mean(machine.tree) or 0.0, run.mean(machine.main) or 0.0
    beside = max(0.0, tree - main)  # our own workers and threads compete as well
    share = waited * others / max(others + beside, 1e-9)
    if others < _BUSY or wasted(1.0, share) < WORTH:
        return None
    return Verdict(
        bound="host",
        cause="neighbour",
        message=f"Other programs keep {others:.1f} of {machine.cores} cores busy; the training was ready to run and "
        f"had to wait for a core {waited:.0%} of the time.",
        share=share,
        gain=wasted(1.0, share),
        change="End the other programs, or start the training when they are done.",
        evidence={"others_cores": others, "own_cores": tree, "waited_share": waited, "stolen_cores": stolen},
        assumption="gain: a thread that is ready runs; what the others do to caches and memory is not counted.",
    )


def quota(run: Run) -> Verdict | None:
    """The control group's quota keeps the training from cores."""
    share = run.mean(run.machine.throttled)
    if share is None or wasted(1.0, min(share, 0.95)) < WORTH:
        return None
    share = min(share, 0.95)
    return Verdict(
        bound="host",
        cause="quota",
        message=f"The container's limit of {run.cores:.1f} cores held the training back {share:.0%} of the time.",
        share=share,
        gain=wasted(1.0, share),
        change="Raise the limit (docker run --cpus, or limits.cpu), or take fewer workers and threads.",
        evidence={"throttled_share": share, "usable_cores": run.cores},
        assumption="gain: as much time as the quota took.",
    )


def paging(run: Run) -> Verdict | None:
    """Memory is short, and pages travel to and from the disk."""
    swapped, major = run.mean(run.machine.swap), run.mean(run.machine.major)
    if swapped is None or swapped < _PAGES:
        return None
    stalled = _pressure(run, 1)
    share = min(0.95, stalled if stalled is not None else 0.2)
    if wasted(1.0, share) < WORTH:
        return None
    return Verdict(
        bound="memory",
        cause="paging",
        message=f"Memory is short: {swapped:.0f} pages a second are swapped.",
        share=share,
        gain=wasted(1.0, share),
        change="Take a smaller batch or fewer workers, or end other programs.",
        evidence={"pages_per_second": swapped, "major_faults_per_second": major, "stalled_share": stalled},
        assumption="gain: the time in which something waited for memory.",
    )


def _pressure(run: Run, column: int) -> float | None:
    table = run.machine.pressure
    return run.mean(table[:, column]) if len(table) else None


def memory_growth(run: Run) -> Verdict | None:
    """The training's memory grows steadily; a straight line through the later part of the loop, with its error."""
    machine, loop = run.machine, run.loop
    chosen = np.flatnonzero(run.in_loop() & np.isfinite(machine.anonymous)) if len(machine) else np.zeros(0, int)
    chosen = chosen[len(chosen) // 3 :]  # caches fill and allocators settle first
    if len(chosen) < 6 or loop.steps < 20:
        return None
    time, held = machine.time[chosen], machine.anonymous[chosen]
    ends = np.append(loop.start[1:], loop.loop_ended)
    steps = np.interp(time, ends, np.cumsum(loop.count))
    span = float(steps[-1] - steps[0])
    if span <= 0:
        return None
    slope, error = _line(steps, held)
    growth, low = slope * span, slope - 2.6 * error  # 99 % of a normal error
    tenths = [float(part.mean()) for part in np.array_split(held, min(10, len(held)))]
    steady = np.mean(np.diff(tenths) > 0) >= 0.7
    if low <= 0.6 * slope or not steady or growth < _LEAK or (slope < _LEAK_STEP and growth < 1 << 30):
        return None
    left = float(machine.available[chosen[-1]])
    until = left / slope
    each = float(loop.parts.sum()) / loop.steps
    return Verdict(
        bound="memory",
        cause="memory_growth",
        message=f"Memory grows by {slope / 1e6:.1f} MB a step (99 % interval {low / 1e6:.1f} to "
        f"{(slope + 2.6 * error) / 1e6:.1f}): the {left / 1e9:.1f} GB that are left last {until:.0f} steps, "
        f"{until * each / 60:.0f} minutes.",
        share=0.0,
        gain=1.0,
        change="Keep no tensor with its history (append loss.item(), not loss); empty lists and caches.",
        expected=1.0,
        evidence={
            "bytes_per_step": slope,
            "standard_error": error,
            "grown_bytes": growth,
            "available_bytes": left,
            "steps_until_full": until,
        },
        assumption="it wins no speed until the memory is full; then the run dies.",
    )


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope of the least-squares line and its standard error, the correlation of neighbours taken into account."""
    centred = x - x.mean()
    spread = float((centred**2).sum())
    slope = float((centred * (y - y.mean())).sum()) / spread
    left = y - y.mean() - slope * centred
    after = float((left[1:] * left[:-1]).sum() / max(float((left**2).sum()), 1e-12))
    worth = max(3.0, len(x) * (1 - max(after, 0.0)) / (1 + max(after, 0.0)))  # independent samples
    return slope, float(np.sqrt((left**2).sum() / len(x) / max(worth - 2, 1.0) / (spread / len(x))))


def gpu_unused(run: Run) -> Verdict | None:
    """A GPU is here and the model never moved to it."""
    if run.gpus == 0 or run.facts.device != "cpu" or run.facts.gpu_usable is False:
        return None
    totals = run.loop.totals()
    total = sum(totals.values())
    work = totals["forward"] + totals["backward"] + totals["optimizer"]
    if total <= 0:
        return None
    rates = (run.facts.flop_rate, run.facts.gpu_flop_rate)
    faster = rates[1] / rates[0] if rates[0] and rates[1] else None
    gain = wasted(total, work * (1 - 1 / faster)) if faster else wasted(total, work * 0.9)
    name = run.machine.gpus[0]["name"]
    move = "model.to('cuda'), and inputs and labels .to('cuda')" if run.facts.own_loop else "--device cuda"
    return Verdict(
        bound="idle",
        cause="gpu_unused",
        message=f"A GPU is here ({name}) and the model never moved to it.",
        share=work / total,
        gain=gain,
        change=f"{move}: estimated {gain:.1f}x.",
        expected=gain,
        settings={} if run.facts.own_loop else {"device": "cuda"},
        evidence={"gpus": [each["name"] for each in run.machine.gpus], "times_as_fast_in_products": faster},
        assumption="the arithmetic runs at the GPU's measured rate of matrix products, or ten times as fast where that "
        "was not measured; loading stays as it is.",
    )


def idle_cores(run: Run) -> Verdict | None:
    """The arithmetic runs on few threads while cores stand idle."""
    threads, facts = run.facts.threads, run.facts
    totals = run.loop.totals()
    total = sum(totals.values())
    work = totals["forward"] + totals["backward"]
    busy = run.mean(run.machine.cpu.mean(axis=1)) if len(run.machine) else None
    if facts.device != "cpu" or threads is None or busy is None or total <= 0 or threads >= run.cores:
        return None
    free = (1 - busy) * run.machine.cores
    more = int(min(run.cores, threads + np.floor(free + 0.2)))
    if more <= threads or work / total < 0.5:
        return None
    gain = wasted(total, work * 0.8 * (1 - threads / more))  # a fifth of a pass does not run side by side
    if gain < 1.25:
        return None
    setting = "torch.set_num_threads" if facts.own_loop else "--threads"
    return Verdict(
        bound="idle",
        cause="idle_cores",
        message=f"The arithmetic runs on {threads} of {run.cores:.0f} cores while {free:.1f} stand idle.",
        share=work / total,
        gain=gain,
        change=f"{setting} {threads} -> {more}: estimated {gain:.1f}x.",
        expected=gain,
        settings={} if facts.own_loop else {"threads": more},
        evidence={"threads": threads, "free_cores": free},
        assumption="four fifths of the forward and backward pass are shared evenly by the threads.",
    )
