"""What the loop itself loses its time to: each possible cause weighed by what the training would win without it."""

from math import ceil
from typing import Any

from houndsight.records.profiling.run import Run
from houndsight.results import Verdict

WORTH = 1.1
"""A cause is named where the training would be at least so many times as fast without it."""
_EVALUATION = 1.35  # validating once an epoch is normal: a fifth of the images, a third of the work
_CHECKPOINT = 1.08
_WORKERS = 16  # most that is ever advised
_SPEAK = 1.3  # a wait is one for something else than computing where its CPU time is less than wall / this


def wasted(total: float, seconds: float) -> float:
    """Amdahl: how many times as fast without `seconds` of `total`."""
    return total / max(total - seconds, 1e-3 * total)


def data(run: Run) -> Verdict | None:
    """The loop waits for its next batch."""
    loop = run.loop
    totals = loop.totals()
    total, waited = sum(totals.values()), totals["data"]
    if total <= 0 or wasted(total, waited) < WORTH:
        return None
    slow = _slow_worker(run, total)
    if slow is not None:
        return slow
    facts, steps = run.facts, max(loop.steps, 1)
    known = facts.workers is not None
    plan = _more_workers(run, waited / steps, (total - waited) / steps)
    where = "--workers" if facts.worker_kind == "threads" else "num_workers"
    change, expected, settings = _cheaper_images(run), None, {}
    if plan is not None and plan[1] >= 1.05:
        count, expected = plan
        change = f"{where} {facts.workers} -> {count}: estimated {expected:.1f}x."
        settings = {"workers": count} if facts.worker_kind == "threads" else {}
    elif not known:
        change = "Load the data in parallel: DataLoader(num_workers=...)."
    return Verdict(
        bound="data",
        cause="data_wait",
        message=f"The loop waits for its data {waited / total:.0%} of the time.",
        share=waited / total,
        gain=wasted(total, waited),
        change=change,
        expected=expected,
        settings=settings,
        evidence={
            "data_seconds_per_step": waited / steps,
            "other_seconds_per_step": (total - waited) / steps,
            "workers": facts.workers,
            "loading_computes": _computes(run),
        },
        assumption="gain: every batch is there when it is asked for. Estimate of the change: batches are made side by "
        "side, as far as the cores that are free allow.",
    )


def _computes(run: Run) -> float | None:
    """Share of the data's time in which the process computed; low where loading waits for a disk or a network."""
    seconds = run.timeline.totals()["data"]
    if run.facts.workers == 0 and "data" in run.facts.cpu and seconds > 0:
        return min(1.0, run.facts.cpu["data"] / seconds)
    return None


def _more_workers(run: Run, data_step: float, other_step: float) -> tuple[int, float] | None:
    """(workers, gain) with as many workers as are useful; None where the present number is not known.

    One batch takes `work` seconds of one worker; k of them deliver one every work / k seconds, and no more than the
    cores can compute.
    """
    now = run.facts.workers
    if now is None:
        return None
    step = data_step + other_step
    work = data_step if now == 0 else now * step
    computing = _computes(run)
    cpu_step = _cpu_per_step(run)
    if computing is not None:  # loading and training share the cores once they run side by side
        cpu_step = computing * data_step + _busy_outside_data(run, other_step)
    floor = (cpu_step or 0.0) / run.cores
    if now > 0 and floor > 0.85 * step:
        return None  # the cores are full
    waits = computing is not None and computing < 1 / _SPEAK
    most = _WORKERS if waits or now > 0 else max(1, ceil(run.cores))
    wanted = max(now + 1, min(most, ceil(1.1 * work / max(other_step, 1e-6))))
    after = max(other_step, work / wanted, floor)
    return (wanted, step / after) if wanted > now else None


def _cpu_per_step(run: Run) -> float | None:
    """CPU seconds of the whole tree of processes for one step."""
    tree, loop = run.mean(run.machine.tree), run.loop
    return None if tree is None else tree * float(loop.parts.sum()) / max(loop.steps, 1)


def _busy_outside_data(run: Run, other_step: float) -> float:
    totals = run.timeline.totals()
    seconds = sum(totals.values()) - totals["data"]
    spent = sum(run.facts.cpu.values()) - run.facts.cpu.get("data", 0.0)
    return other_step * min(run.cores, spent / seconds) if seconds > 0 else other_step


def _cheaper_images(run: Run) -> str:
    if run.facts.own_loop:
        return "Make a batch cheaper: decode once and keep the result, store smaller images, augment less."
    return (
        "Make a batch cheaper: --augment crop-flip or none, a smaller --image-size, or --views for a frozen backbone."
    )


def _slow_worker(run: Run, total: float) -> Verdict | None:
    """One of several data workers holds up all of them, since batches come in order."""
    waits = [each for each in run.facts.worker_waits if each.batches > 0]
    if len(waits) < 2:
        return None
    each = sorted((wait.seconds / wait.batches, wait.worker, wait.batches) for wait in waits)
    (usual, _, _), (worst, worker, batches) = each[len(each) // 2 - (len(each) % 2 == 0)], each[-1]
    excess = (worst - usual) * batches
    excess *= total / max(total, float(run.timeline.parts.sum()))
    if excess < 0.6 * run.timeline.totals()["data"] or worst < 3 * usual or wasted(total, excess) < WORTH:
        return None
    return Verdict(
        bound="data",
        cause="slow_worker",
        message=f"Data worker {worker} holds up the others: the loop waits {worst * 1e3:.0f} ms for each of its "
        f"batches and {usual * 1e3:.0f} ms for those of the others.",
        share=excess / total,
        gain=wasted(total, excess),
        change=f"Look at what worker {worker} reads and where it runs; with in_order=False the others need not wait.",
        evidence={"seconds_per_batch_by_worker": {str(number): mean for mean, number, _ in sorted(each)}},
        assumption="gain: its batches come as fast as those of the others.",
    )


_PARTS: dict[str, tuple[Any, str, float, str, str]] = {
    "copy": (
        "copy",
        "Copying to the device, or copying tensors at all, takes {share:.0%} of the time.",
        WORTH,
        "Copy what does not change once, before the loop; batches with pin_memory=True and non_blocking=True.",
        "the copy is made once, or hidden behind the arithmetic.",
    ),
    "sync": (
        "host",
        "Waiting for the GPU in every step (.item(), .cpu(), print) takes {share:.0%} of the time.",
        WORTH,
        "Keep losses as tensors on the GPU and read them every 50 steps.",
        "the GPU has its next work queued when it ends the last.",
    ),
    "rest": (
        "host",
        "Work between the steps that is neither loading nor training takes {share:.0%} of the time.",
        WORTH,
        "Look at what is done between optimizer.step() and the next batch (logging, metrics); do it every 50 steps.",
        "that work is left out or done beside the loop.",
    ),
    "debugger": (
        "host",
        "The debugger takes {share:.0%} of the time.",
        WORTH,
        "Save statistics more rarely.",
        "the debugger is detached.",
    ),
    "checkpoint": (
        "host",
        "Writing checkpoints takes {share:.0%} of the time.",
        _CHECKPOINT,
        "",
        "no checkpoint is written.",
    ),
    "evaluate": (
        "compute",
        "Evaluation takes {share:.0%} of the time.",
        _EVALUATION,
        "",
        "nothing is evaluated before the end.",
    ),
}
_CAUSES = {"copy": "copy", "sync": "sync", "rest": "between_steps", "evaluate": "evaluation"}


def parts(run: Run) -> list[Verdict]:
    """One cause for each part of the loop that is not training itself and is dear."""
    loop = run.loop
    totals = loop.totals()
    total, found = sum(totals.values()), []
    for name, (bound, message, worth, change, assumption) in _PARTS.items():
        seconds = totals[name]
        if name == "rest":
            seconds = max(0.0, seconds - run.facts.window_stall)  # the profiler's own, once a run
        if total <= 0 or wasted(total, seconds) < worth:
            continue
        rarely = name in ("checkpoint", "evaluate")
        advice, expected = _rarer(run, name, total, seconds) if rarely else (change, None)
        found.append(
            Verdict(
                bound=bound,
                cause=_CAUSES.get(name, name),
                message=message.format(share=seconds / total),
                share=seconds / total,
                gain=wasted(total, seconds),
                change=advice,
                expected=expected,
                evidence={"seconds_per_step": seconds / max(loop.steps, 1), "seconds": seconds},
                assumption=f"gain: {assumption}",
            )
        )
    return found


def _rarer(run: Run, name: str, total: float, seconds: float) -> tuple[str, float]:
    """How rarely it would have to be done to take a twentieth of the time, and what that wins."""
    loop = run.loop
    times = max(1, int((loop.column(name) > 0).sum()))
    every = loop.steps / times
    rarer = max(2, ceil(19 * seconds / max(total - seconds, 1e-9)))
    expected = wasted(total, seconds * (1 - 1 / rarer))
    what = "Write a checkpoint" if name == "checkpoint" else "Evaluate"
    setting = " (--checkpoint-seconds)" if name == "checkpoint" and not run.facts.own_loop else ""
    often = f"every {every:.0f} steps" if every >= 1.5 else "every step"
    return f"{what} {rarer} times more rarely than {often}{setting}: estimated {expected:.1f}x.", expected


def tiny_batch(run: Run) -> Verdict | None:
    """Each step's fixed costs outweigh its arithmetic, as a measurement with larger batches showed."""
    loop, probe, batch = run.loop, sorted(run.facts.probe), run.facts.batch_size
    if not probe or not batch or loop.steps < 1 or len(probe) < 2:
        return None
    (small, quick), (large, slow) = probe[0], probe[-1]
    totals = loop.totals()
    total, steps = sum(totals.values()), loop.steps
    work = (totals["forward"] + totals["backward"]) / steps
    ratio = (slow / large) / (quick / small)  # what an image costs in a large batch, of what it costs now
    saved = work * (1 - min(1.0, ratio)) + totals["optimizer"] / steps * (1 - small / large)
    saved += totals["rest"] / steps * (1 - small / large)
    gain = wasted(total, steps * saved)
    if gain < 1.25:
        return None
    lr = "and raise the learning rate with it"
    return Verdict(
        bound="host",
        cause="tiny_batch",
        message=f"A batch of {batch} is too small: {steps * saved / total:.0%} of the time goes into what a step costs "
        "whatever its size.",
        share=steps * saved / total,
        gain=gain,
        change=f"batch_size {batch} -> {large}: estimated {gain:.1f}x ({lr}).",
        expected=gain,
        settings={"batch_size": large},
        evidence={"seconds_by_batch": {str(size): seconds for size, seconds in probe}, "batch_size": batch},
        assumption="gain in images a second: forward and backward scale as measured on random inputs, the optimizer's "
        "time does not depend on the batch.",
    )
