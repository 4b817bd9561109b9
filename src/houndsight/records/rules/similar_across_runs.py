"""Two runs that are the same although they were asked to differ; a rule over this run and others."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from houndsight.records.rules.history import History
from houndsight.records.rules.rule import SCALARS, Rule, listed
from houndsight.spec import Finding

SAME = 12


@dataclass(frozen=True)
class Other:
    """Another run to compare with."""

    name: str
    """Its name."""
    steps: NDArray[np.int64]
    """(n,) training steps."""
    losses: NDArray[np.float64]
    """(n,) training losses."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What was asked for it."""


class SimilarAcrossRuns(Rule):
    """Another run with other settings had exactly the same losses: one of the settings does nothing.

    Mathematics: the training losses of at least 12 common steps are the same bit for bit, while the settings differ.
    SageMaker's way (with `tensor_regex` or `collection_names`): fires at the first common step at which they differ.
    Source: SageMaker Debugger's documentation, whose rule fires on difference despite its name.
    Severity: warning. Repair: the settings that do nothing.
    """

    name = "similar_across_runs"
    needs = "another run to compare with"
    hears = SCALARS
    sagemaker = {"other_trials": "", "collection_names": "", "tensor_regex": ""}

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self.others: tuple[Other, ...] = ()
        """The runs to compare with; the engine gives them."""
        self.settings: dict[str, Any] = {}
        """What was asked for this run."""

    def judge(self, history: History) -> Iterator[Finding]:  # noqa: ARG002 - the whole run counts
        """Nothing can be said before the end."""
        yield from ()

    def finish(self, history: History) -> Iterator[Finding]:
        """Compare the losses of the runs."""
        steps, losses = history.scalar("loss")
        for other in self.others:
            common, mine, theirs = np.intersect1d(steps, other.steps, return_indices=True)
            if len(common) < SAME:
                continue
            self.looked = True
            same = losses[mine] == other.losses[theirs]
            if self.compatible:
                yield from self._differs(other, common, same)
            elif same.all():
                yield from self._alike(other, len(common))

    def _differs(self, other: Other, common: NDArray[np.int64], same: NDArray[np.bool_]) -> Iterator[Finding]:
        if not same.all():
            yield self.issue(
                f"The loss differs from that of {other.name} from step {common[~same][0]} on.",
                "Compare the settings and the seeds of both runs.",
                step=int(common[~same][0]),
                evidence={"other": other.name, "steps": len(common)},
            )

    def _alike(self, other: Other, count: int) -> Iterator[Finding]:
        keys = sorted(set(self.settings) | set(other.settings))
        changed = [key for key in keys if self.settings.get(key) != other.settings.get(key)]
        if changed:
            yield self.issue(
                f"All {count} losses are the same as those of {other.name}, although {listed(changed)} differ.",
                f"See that the training uses {listed(changed)}.",
                evidence={"other": other.name, "steps": count, "settings": changed},
            )
