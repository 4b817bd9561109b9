"""What a tuning is, as frozen data: the job that is tried again and again, the space, the strategy and the limits."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from houndsight.spec import ClassifierSpec, Frozen, JobSpec, ScriptSpec
from houndsight.tuning.space import Parameter

Goal = Literal["maximize", "minimize"]
StrategyName = Literal["bayesian", "random", "grid", "hyperband", "asha"]


class Earlier(Frozen):
    """One trial of an earlier tuning that this search starts from."""

    hyperparameters: dict[str, Any]
    """What it was tried with."""
    value: float
    """What came of it."""


class TuningSpec(Frozen):
    """One search; `tuning.json`."""

    kind: Literal["tuning"] = "tuning"
    """What sort of thing this is."""
    job: dict[str, Any]
    """The spec of every trial as far as it is given, `kind` included; a trial adds its hyperparameters."""
    space: dict[str, Annotated[Parameter, Field()]]
    """Name -> what may be chosen."""
    strategy: StrategyName = "bayesian"
    """How trials are chosen: `bayesian` learns from those that ended (TPE), `random`, `grid` takes every combination,
    `asha` is bayesian and goes on only with the best after a few epochs, `hyperband` hedges asha's first stop."""
    objective: str = "valid:accuracy"
    """What is compared: `valid:<metric>` of a classifier, or the name of a script's metric."""
    pattern: str | None = None
    """Regular expression of a script's objective, searched in each line of its log; the first group is the number."""
    goal: Goal = "maximize"
    """Whether a higher objective is better or a lower one; what its name says, where nobody does."""
    jobs: int = Field(default=20, ge=1, le=10_000)
    """Trials of the search."""
    parallel: int = Field(default=1, ge=1, le=256)
    """Trials at the same time; the processors are divided between them. As many as processors for heads on a frozen
    backbone where nobody says, else one."""
    minutes: float | None = Field(default=None, gt=0.0)
    """Longest search; what then runs is stopped and kept as it is."""
    budget: int | None = Field(default=None, ge=1)
    """Most epochs of all trials together."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the search."""
    default_first: bool = True
    """Trial 0 is the job as it is without the search."""
    pruning: Literal["none", "median"] = "none"
    """`median` stops a trial that is worse than half of the others were at its age."""
    reduction: int = Field(default=3, ge=2, le=16)
    """asha and hyperband: of so many trials one goes on, with so many times the epochs."""
    first_rung: int | None = Field(default=None, ge=1)
    """asha and hyperband: epochs after which trials are compared first; a third of all by default, for the learning
    rate of a long run has hardly fallen before."""
    reseed: int = Field(default=3, ge=0, le=20)
    """The best trials that chance does not tell apart, at most so many, are trained once more with another seed."""
    final: Literal["soup", "best", "none"] = "soup"
    """The model that is measured on the test split at the end: the weights of good trials averaged where that helps,
    those of the best trial, or none."""
    backend: Literal["local", "inline"] = "local"
    """Where trials run: each in a process of its own, or one after the other in this one."""
    cold: bool = False
    """Start every trial as a program of its own; else they are forked from a process that has imported everything."""
    source: str | None = None
    """The tuning that this one starts from."""
    earlier: tuple[Earlier, ...] = ()
    """What that one had found, where it was of the same data and objective."""
    first: tuple[dict[str, Any], ...] = ()
    """Points that are tried before any other."""

    @model_validator(mode="after")
    def _together(self) -> Self:
        problems = []
        if self.strategy in ("asha", "hyperband") and self.pruning != "none":
            problems.append("pruning: asha and hyperband stop trials by themselves")
        if self.pattern is not None and self.job.get("kind") != "script":
            problems.append("pattern: only the objective of a script is read from its log")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def is_script(self) -> bool:
        """Whether trials run a script."""
        return self.job.get("kind") == "script"

    def job_spec(self, **changes: Any) -> JobSpec:
        """The spec of a job of this tuning with some fields changed; raises `SpecError` for what cannot be honoured."""
        kind: type[ClassifierSpec] | type[ScriptSpec] = ScriptSpec if self.is_script else ClassifierSpec
        return kind.create(**{**self.job, **changes})

    def better(self, one: float, other: float) -> bool:
        """Whether the objective `one` is better than `other`."""
        return one > other if self.goal == "maximize" else one < other

    def sign(self) -> float:
        """1 where more is better, else -1."""
        return 1.0 if self.goal == "maximize" else -1.0
