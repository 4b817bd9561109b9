"""Custom rules of `smdebug`: they ask for tensors of a step, look at them, and say whether they found something."""

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from houndsight.backends import base
from houndsight.folders import JobFolder
from houndsight.scripts.smdebug_errors import (
    NoMoreData,
    NoMoreProfilerData,
    RuleEvaluationConditionMet,
    StepUnavailable,
    TensorUnavailable,
    TensorUnavailableForStep,
)
from houndsight.scripts.smdebug_trial import Tensor, Trial, no_refresh

log = logging.getLogger("houndsight")

GRACE = 120.0
"""Seconds that a training has to end by itself when a rule stops it."""


class RequiredTensorsForTrial:
    """Which tensors of one trial a rule needs, and at which steps."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self._steps: dict[str, list[int]] = {}

    def add(self, name: str, steps: Iterable[int], should_match_regex: bool = False) -> None:
        """Need that tensor, or those whose names the regular expression is found in, at these steps."""
        if not should_match_regex and not self.trial.has_tensor(name):
            raise TensorUnavailable(name)
        for each in self.trial.tensor_names(regex=name) if should_match_regex else [name]:
            known = self._steps.setdefault(each, [])
            known += [step for step in steps if step not in known]

    def get_tensor_steps(self, name: str) -> list[int]:
        """The steps at which it is needed."""
        return self._steps[name]

    def get_names(self) -> list[str]:
        """The names of the tensors."""
        return list(self._steps)

    def get(self) -> list[Tensor]:
        """The tensors."""
        return [self.trial.tensor(name) for name in self._steps]

    def clear(self) -> None:
        """Need nothing."""
        self._steps.clear()

    def fetch(self) -> None:
        """Wait until everything is there; raises what is not."""
        self.trial.wait_for_steps(sorted({step for steps in self._steps.values() for step in steps}))
        for name, steps in self._steps.items():
            for step in steps:
                self.trial.tensor(name).value(step)


class RequiredTensors:
    """The same for all trials of a rule."""

    def __init__(self, base_trial: Trial, other_trials: Iterable[Trial] | None) -> None:
        self.base_trial = base_trial
        self._of = {each: RequiredTensorsForTrial(each) for each in (base_trial, *(other_trials or ()))}

    def add(
        self, name: str, steps: Iterable[int], trial: Trial | None = None, should_match_regex: bool = False
    ) -> None:
        """Need that tensor of that trial, by default of the first."""
        self._of[trial or self.base_trial].add(name, list(steps), should_match_regex)

    def get_tensor_steps(self, name: str, trial: Trial | None = None) -> list[int]:
        """The steps at which it is needed."""
        return self._of[trial or self.base_trial].get_tensor_steps(name)

    def get_names(self, trial: Trial | None = None) -> list[str]:
        """The names of the tensors."""
        return self._of[trial or self.base_trial].get_names()

    def get(self, trial: Trial | None = None) -> list[Tensor]:
        """The tensors."""
        return self._of[trial or self.base_trial].get()

    def clear(self) -> None:
        """Need nothing."""
        for each in self._of.values():
            each.clear()

    def fetch(self) -> None:
        """Wait until everything is there; raises what is not."""
        for each in self._of.values():
            each.fetch()


@dataclass
class Actions:
    """What is done when a rule has found something: of SageMaker's actions the training's stop."""

    asked: list[str]
    trial: Trial
    done: list[str] = field(default_factory=list)
    """What was done."""

    @classmethod
    def of(cls, text: Any, trial: Trial) -> "Actions":
        """From the JSON that SageMaker hands to a rule."""
        try:
            given = json.loads(text) if isinstance(text, str) and text.strip() else []
        except ValueError:
            log.warning("The rule's actions are no JSON and are left out: %s", text)
            given = []
        listed = given if isinstance(given, list) else [given]
        return cls([str(each.get("name", "")).lower() for each in listed if isinstance(each, dict)], trial)

    def invoke(self) -> None:
        """Do it, once."""
        for name in self.asked:
            job = JobFolder(Path(self.trial.path).parent)
            if name == "stoptraining" and name not in self.done and job.spec.is_file():
                log.warning("The rule stops the job %s.", job.name)
                base.request_stop(job, GRACE)
            elif name not in self.done:
                log.warning("The rule's action %s is not done here.", name)
            self.done.append(name)


class Rule(ABC):
    """A rule of one's own: `invoke_at_step` looks at one step and returns whether it found something."""

    def __init__(self, base_trial: Trial, action_str: Any = "", other_trials: Iterable[Trial] | None = None) -> None:
        """`base_trial` is what it looks at; `other_trials` may be compared with it."""
        self.base_trial, self.other_trials = base_trial, None if other_trials is None else list(other_trials)
        self.trials = [base_trial, *(self.other_trials or ())]
        self.req_tensors = RequiredTensors(base_trial, self.other_trials)
        self.logger = log
        self.rule_name = type(self).__name__
        self._actions = Actions.of(action_str, base_trial)
        self.report: dict[str, Any] = {
            "RuleTriggered": 0,
            "Violations": 0,
            "Details": {},
            "Datapoints": 0,
            "RuleParameters": "",
        }
        """What it found, as SageMaker's reports hold it; the rule's own business."""

    def set_required_tensors(self, step: int) -> None:  # noqa: B027 - a rule may leave it out
        """Say by `req_tensors.add` what `invoke_at_step` will look at."""

    @abstractmethod
    def invoke_at_step(self, step: int) -> bool:
        """Look at that step, counted over all modes; whether something was found."""

    def invoke(self, step: int) -> None:
        """Wait for the step and look at it; raises `RuleEvaluationConditionMet` where something was found."""
        self.base_trial.wait_for_steps([step])
        with no_refresh(self.trials):  # what is needed and what is looked at are the same steps
            self.req_tensors.clear()
            self.set_required_tensors(step)
            self.req_tensors.fetch()
            found = self.invoke_at_step(step)
        if found:
            self._actions.invoke()
            raise RuleEvaluationConditionMet(self.rule_name, step)


def invoke_rule(
    rule_obj: Rule, start_step: int | None = 0, end_step: int | None = None, raise_eval_cond: bool = False
) -> None:
    """Ask the rule step after step, while the training runs and to its end; steps that were not saved are passed over.

    Raises what the rule found where `raise_eval_cond` is true. Unlike smdebug's, which raises `NoMoreData`, it returns
    when the training has ended.
    """
    step = start_step or 0
    log.info("Started execution of rule %s at step %d", rule_obj.rule_name, step)
    while end_step is None or step < end_step:
        try:
            rule_obj.invoke(step)
        except (TensorUnavailableForStep, StepUnavailable, TensorUnavailable) as reason:
            log.debug("%s", reason)
        except RuleEvaluationConditionMet as met:
            if raise_eval_cond:
                raise
            log.info("%s", met)
            if met.end_of_rule:
                break
        except (NoMoreData, NoMoreProfilerData) as reason:
            log.info("%s", reason)
            break
        step += 1
    log.info("Ended execution of rule %s at end_step %d", rule_obj.rule_name, step - 1)
