"""What comes after the search: the best again with other seeds, and one model that sees the test split once."""

from typing import Any

from houndsight.errors import JobError
from houndsight.folders import TuningFolder
from houndsight.spec import ClassifierSpec, JobSpec
from houndsight.tuning import audit, leaderboard, trials
from houndsight.tuning.events import State, Trial
from houndsight.tuning.spec import TuningSpec
from houndsight.workspace import Workspace, write_json

SOUP = 8
"""Most models that a soup is tried with."""


def other_seed(spec: TuningSpec, trial: Trial) -> int | None:
    """The seed of the repetition of a trial; a script has none that we know of."""
    return None if spec.is_script else (int(spec.job.get("seed", 0)) + 1000 + trial.number) % 2**63


def to_reseed(spec: TuningSpec, state: State, place: Workspace) -> list[Trial]:
    """The leading trials that are to be trained with another seed: what chance does not tell apart from the best.

    A head fitted in closed form has no seed.
    """
    tied = [each.trial for each in leaderboard.rank(spec, state, place) if each.tied][: spec.reseed]
    return [each for each in tied if not each.seedless]


def final_wanted(spec: TuningSpec) -> bool:
    """Whether a final model is made: of a script the best job's own artifact is it."""
    return spec.final != "none" and not spec.is_script


def final_spec(spec: TuningSpec, state: State, place: Workspace) -> JobSpec:
    """The job that averages what can be averaged with the best model, and measures the result on the test split."""
    best = leaderboard.best_trial(spec, state)
    assert best is not None, "a final model is made of a completed trial"
    plan = ClassifierSpec.read(trials.job_of(place, best).plan)
    chosen = [best, *(_companions(spec, state, place, best, plan) if spec.final == "soup" else [])]
    paths = [str(trials.job_of(place, each).model) for each in chosen]
    frozen = plan.freeze == "all"
    same: dict[str, Any] = {
        name: getattr(plan, name)
        for name in (
            "data",
            "split_seed",
            "backbone",
            "weights",
            "hidden",
            "dropout",
            "image_size",
            "device",
            "precision",
        )
        if getattr(plan, name) is not None
    }
    return ClassifierSpec.create(
        **same, recipe="plain", freeze="all" if frozen else "none", monitor=trials.monitor(spec), soup=paths,
        **{name: spec.job[name] for name in ("threads", "workers") if name in spec.job},
    )  # fmt: skip


def _companions(spec: TuningSpec, state: State, place: Workspace, best: Trial, plan: ClassifierSpec) -> list[Trial]:
    """Other completed trials, best first, whose weights can be averaged with the best one's.

    Linear heads on the same frozen backbone always can; fine-tuned networks where all began from the same probe.
    """
    if plan.hidden or not (plan.freeze == "all" or plan.head_start == "probe"):
        return []
    found = []
    for trial in sorted(state.trials, key=lambda each: -spec.sign() * (each.value or 0.0)):
        if trial is best or trial.state != "COMPLETED" or trial.value is None or trial.role == "final":
            continue
        other = ClassifierSpec.read(trials.job_of(place, trial).plan)
        alike = all(
            getattr(plan, name) == getattr(other, name) for name in ("backbone", "weights", "hidden", "image_size")
        )
        if alike and (plan.freeze == "all") == (other.freeze == "all") and (
            plan.freeze == "all" or other.head_start == "probe"
        ):  # fmt: skip
            found.append(trial)
    return found[: SOUP - 1]


def conclude(spec: TuningSpec, state: State, folder: TuningFolder, place: Workspace) -> None:
    """Write `best.json` and `findings.json` as they are now."""
    write_best(spec, state, folder, place)
    found = audit.findings(spec, state, place, leaderboard.rank(spec, state, place))
    write_json(folder.findings, {"findings": [each.model_dump(mode="json") for each in found]})


def write_best(spec: TuningSpec, state: State, folder: TuningFolder, place: Workspace) -> None:
    """Write `best.json`: the best so far, and the final model when there is one."""
    best = leaderboard.best_trial(spec, state)
    if best is None:
        return
    final = next((each for each in state.trials if each.role == "final" and each.state == "COMPLETED"), None)
    write_json(folder.best, best_document(spec, state, place, best, final))


def best_document(spec: TuningSpec, state: State, place: Workspace, best: Trial, final: Trial | None) -> dict[str, Any]:
    """What `best.json` holds."""
    values = leaderboard.values_of(state, best)
    document: dict[str, Any] = {
        "job": best.job,
        "trial": best.number,
        "hyperparameters": best.hyperparameters,
        "objective": spec.objective,
        "goal": spec.goal,
        "value": best.value,
        "low": best.low,
        "high": best.high,
        "n": best.n,
        "metrics": best.metrics,
        "mean_over_seeds": leaderboard.mean(values) if len(values) > 1 else None,
        "values_over_seeds": values,
        "final": None,
    }
    if final is not None:
        job = trials.job_of(place, final)
        document["final"] = {"job": final.job, "metrics": leaderboard.measured(job), "model": str(job.model_archive)}
    return document


def no_trial() -> JobError:
    """The error of a search that has nothing to show yet."""
    return JobError("No trial of this tuning was completed yet.", "Wait for it, or look at `houndsight jobs`.")
