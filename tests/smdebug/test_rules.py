"""Rules of a user's own run over what a training saved: which step fires, live and afterwards, and what is done."""

import threading
from pathlib import Path
from typing import Any

import pytest

from houndsight.scripts.smdebug_errors import RuleEvaluationConditionMet, TensorUnavailable
from houndsight.scripts.smdebug_rules import Rule, invoke_rule
from houndsight.scripts.smdebug_sources import create_trial
from houndsight.scripts.smdebug_store import Reader, Writer
from houndsight.scripts.smdebug_trial import Trial
from houndsight.spec import Status
from houndsight.workspace import Workspace, write_json

from .test_trial import LOSS, job_of, loss, opened


class NotFalling(Rule):
    """The newest loss is not `percent` under the lowest of those before, among the last `count`."""

    def __init__(self, base_trial: Trial, percent: float = 0.0, count: int = 3, **named: Any) -> None:
        super().__init__(base_trial, **named)
        self.percent, self.count = percent, count
        self.asked: list[int] = []

    def set_required_tensors(self, step: int) -> None:
        """The loss of the last steps."""
        for name in self.base_trial.tensor_names(regex=".*Loss_output"):
            steps = self.base_trial.tensor(name).prev_steps(step, self.count)
            self.req_tensors.add(name=name, steps=steps)

    def invoke_at_step(self, step: int) -> bool:
        """Compare."""
        self.asked.append(step)
        for tensor in self.req_tensors.get():
            steps = self.req_tensors.get_tensor_steps(tensor.name)
            values = [float(tensor.value(each)) for each in steps]
            self.report["Datapoints"] += 1
            if len(values) == self.count and values[-1] > min(values[:-1]) * (1 - self.percent / 100):
                self.report["Violations"] += 1
                return True
        return False


def losses(folder: Path) -> Writer:
    writer = opened(folder)
    for at, value in enumerate((0.30, 0.33, 0.31, 0.30, 0.28)):
        loss(writer, 4 * at, value)
    return writer


def test_a_rule_fires_at_the_step_at_which_it_should(tmp_path: Path) -> None:
    losses(tmp_path / "t").close({"TRAIN": 16}, 16)
    rule = NotFalling(create_trial(str(tmp_path / "t")), action_str="")
    with pytest.raises(RuleEvaluationConditionMet, match="NotFalling at step 8") as met:
        invoke_rule(rule, raise_eval_cond=True)
    assert (met.value.step, rule.asked) == (8, [0, 4, 8])
    calm = NotFalling(create_trial(str(tmp_path / "t")), percent=-50)
    invoke_rule(calm, start_step=1)
    assert calm.asked == [4, 8, 12, 16]
    invoke_rule(calm, start_step=0, end_step=5)
    assert calm.asked[4:] == [0, 4]
    assert calm.report["Datapoints"] == 6


def test_a_rule_follows_a_training_that_runs(tmp_path: Path) -> None:
    writer = opened(tmp_path / "t")
    loss(writer, 0, 0.5)

    def go_on() -> None:
        for number in (1, 2, 3):
            loss(writer, number, 0.5 - number / 10)
        writer.close({"TRAIN": 3}, 3)

    timer = threading.Timer(0.3, go_on)
    timer.start()
    rule = NotFalling(Trial(Reader(tmp_path / "t"), "t"), count=2)
    invoke_rule(rule)
    timer.join()
    assert rule.asked == [0, 1, 2, 3]


def test_what_a_rule_needs_has_to_be_there(tmp_path: Path) -> None:
    losses(tmp_path / "t").close({"TRAIN": 16}, 16)
    trial = create_trial(str(tmp_path / "t"))

    class Needy(NotFalling):
        def set_required_tensors(self, step: int) -> None:
            self.req_tensors.add("nothing", [step])

    with pytest.raises(TensorUnavailable):
        Needy(trial).invoke(0)
    rule = Needy(trial)
    invoke_rule(rule)  # passed over
    assert rule.asked == []
    rule.req_tensors.add("Loss", [0, 4], should_match_regex=True)
    assert rule.req_tensors.get_names() == [LOSS]


def test_a_rule_stops_the_job(workspace: Workspace) -> None:
    job = job_of(workspace, "RUNNING")
    losses(job.path / "debug-output").close({"TRAIN": 16}, 16)
    trial = Trial(Reader(job.path / "debug-output"), "my-job")
    rule = NotFalling(trial, action_str='[{"name": "StopTraining", "training_job_prefix": "my"}, {"name": "sms"}]')
    invoke_rule(rule)
    assert job.stop_request.exists()
    write_json(job.status, Status(state="COMPLETED"))
