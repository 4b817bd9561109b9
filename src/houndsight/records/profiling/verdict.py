"""The verdict: of all that slows a training the one thing that costs most, or that nothing stands in its way."""

from houndsight.records.profiling import candidates, surroundings
from houndsight.records.profiling.run import Run
from houndsight.results import Verdict

FEWEST_STEPS = 5
SHORTEST = 0.5
"""Steps and seconds of a loop below which nothing is said."""
_ENDS_THE_RUN = ("memory_growth",)


def judge(run: Run) -> Verdict | None:
    """What limits this run, with the other causes as alternatives; None where there is too little to judge.

    What will end the run comes first, then what costs most time.
    """
    loop = run.loop
    total = float(loop.parts.sum())
    if loop.steps < FEWEST_STEPS or total < SHORTEST:
        return None
    found = [
        *candidates.parts(run),
        candidates.data(run),
        candidates.tiny_batch(run),
        surroundings.neighbour(run),
        surroundings.quota(run),
        surroundings.paging(run),
        surroundings.memory_growth(run),
        surroundings.gpu_unused(run),
        surroundings.idle_cores(run),
    ]
    causes = sorted(
        (each for each in found if each is not None), key=lambda each: (each.cause not in _ENDS_THE_RUN, -each.gain)
    )
    if not causes:
        return _healthy(run, total)
    return causes[0].model_copy(update={"alternatives": tuple(causes[1:])})


def _healthy(run: Run, total: float) -> Verdict:
    totals = run.loop.totals()
    share = (totals["forward"] + totals["backward"] + totals["optimizer"]) / total
    facts, steps = run.facts, run.loop.steps
    reached = None
    if facts.flops_per_step and facts.flop_rate:
        reached = facts.flops_per_step / (total / steps) / facts.flop_rate
    of_it = f", at {reached:.0%} of the rate of this machine's matrix products" if reached else ""
    return Verdict(
        bound="compute",
        cause="compute",
        message=f"Nothing stands in the way of the arithmetic: {share:.0%} of the time is forward, backward and "
        f"optimizer{of_it}.",
        share=share,
        gain=1.0,
        change="" if facts.own_loop else "Only less work is faster: --first-size, a smaller backbone, or --freeze all.",
        evidence={"share_by_part": {name: seconds / total for name, seconds in totals.items() if seconds > 0},
                  "share_of_measured_rate": reached},
        assumption="the network and the number of images stay as they are.",
    )  # fmt: skip
