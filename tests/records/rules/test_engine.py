"""The engine: moments in parts, findings written, rules that break, actions, and the cost of it all."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from houndsight.errors import SpecError
from houndsight.folders import JobFolder
from houndsight.records.arrays import ArrayWriter, cells
from houndsight.records.facts import add_facts
from houndsight.records.rules.engine import COMMANDS, MOST, Engine, check
from houndsight.records.rules.evaluate import evaluate, replay
from houndsight.records.rules.moment import Moment, Samples
from houndsight.records.rules.settings import Asked, parse, parse_action
from houndsight.records.rules.table import RULES
from houndsight.records.rules.weight_decay import WeightDecay
from houndsight.records.tensors import STATISTICS, TensorWriter
from houndsight.records.writer import RecordWriter

from .feeding import facts, losses, tensors

NAN = {"gradient/body.weight": {"l2": float("inf"), "nonfinite": 0.5}}


def test_every_rule_has_a_name_of_its_own_and_says_what_it_needs() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names) >= 38
    for rule in RULES:
        assert rule.needs
        doc = rule.__doc__ or ""
        for word in ("Mathematics", "Source", "Severity", "Repair"):
            assert word in doc, f"{rule.name} does not say {word}"


def test_nothing_recorded_is_not_applicable_and_never_fine() -> None:
    found = Engine({}).close()
    assert {each.status for each in found} == {"NotApplicable"}
    assert all(each.message.startswith("Not recorded: ") for each in found)


def test_while_it_runs_the_rules_are_in_progress() -> None:
    engine = Engine(facts())
    engine.feed(tensors(0, {"weight/body.weight": {"l2": 1.0, "std": 1.0}}))
    assert {each.status for each in engine.findings()} == {"InProgress"}


def test_parts_of_a_step_are_judged_together() -> None:
    engine = Engine(facts(), strict=True)
    assert engine.feed(Moment(3, scalars={"loss": 1.0})) == []
    assert engine.feed(tensors(3, NAN)) == []
    [*_, found] = [each for each in engine.feed(Moment(4, scalars={"loss": 1.0})) if each.rule == "exploding_tensor"]
    assert found.step == 3
    assert found.severity == "error"


def test_a_rule_that_breaks_says_so_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_rule: Any, _history: Any) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(WeightDecay, "judge", broken)
    engine = Engine(facts())
    engine.feed(tensors(0, NAN))
    found = {each.rule: each for each in engine.close()}
    assert found["weight_decay"].status == "Error"
    assert "on purpose" in found["weight_decay"].message
    assert found["exploding_tensor"].status == "IssuesFound"
    strict = Engine(facts(), strict=True)
    strict.feed(tensors(0, NAN))
    with pytest.raises(ZeroDivisionError):
        strict.flush()


def test_findings_are_written_at_once_and_limited(tmp_path: Path) -> None:
    engine = Engine(facts(), folder=JobFolder(tmp_path))
    for step in range(0, 40, 2):
        engine.feed(tensors(step, NAN))
        engine.feed(tensors(step + 1, {"gradient/body.weight": {"l2": 1.0, "nonfinite": 0.0}}))
    written = json.loads((tmp_path / "findings.json").read_bytes())["findings"]
    ours = [each for each in written if each["rule"] == "exploding_tensor"]
    assert 1 < len(ours) <= MOST
    engine.close()
    assert json.loads((tmp_path / "findings.json").read_bytes())["actions"] == []


def stops(engine: Engine) -> bool:
    return engine.stop


def test_stop_asks_the_job_to_stop_once_and_only_at_errors(tmp_path: Path) -> None:
    engine = Engine(facts(), on_finding="stop", folder=JobFolder(tmp_path))
    for moment in losses([5.0, 5.0, 5.0]):  # initial_loss is a warning
        engine.feed(moment)
    engine.flush()
    assert not stops(engine)
    engine.feed(tensors(3, NAN))
    engine.flush()
    assert stops(engine)
    assert JobFolder(tmp_path).stop_request.exists()
    engine.feed(tensors(4, NAN))
    engine.flush()
    assert [each["action"] for each in engine.actions] == ["stop"]


def test_a_command_gets_the_finding_word_by_word_and_is_rate_limited(tmp_path: Path) -> None:
    out = tmp_path / "said.txt"
    script = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('|'.join(sys.argv[2:]))"
    command = f"{sys.executable} -c \"{script}\" {out} {{rule}} {{severity}} {{step}} '{{message}}; rm -rf /'"
    others = [f"{rule.name}:off" for rule in RULES if rule.name != "exploding_tensor"]
    engine = Engine(facts(), others, on_finding=command, folder=JobFolder(tmp_path))
    for step in range(0, 8, 2):
        engine.feed(tensors(step, NAN))
        engine.feed(tensors(step + 1, {"gradient/body.weight": {"l2": 1.0, "nonfinite": 0.0}}))
    assert len(engine.actions) == 1 <= COMMANDS
    [running] = engine.running
    assert running.wait(timeout=30) == 0
    *words, message = out.read_text().split("|")
    assert words == ["exploding_tensor", "error", "0"]
    assert message.endswith("; rm -rf /")


def test_a_command_that_is_not_there_is_written_down(tmp_path: Path) -> None:
    engine = Engine(facts(), on_finding=str(tmp_path / "nothing"), folder=JobFolder(tmp_path))
    engine.feed(tensors(0, NAN))
    engine.flush()
    assert "No such file" in engine.actions[0]["failed"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ([], Asked()),
        (["none"], Asked(none=True)),
        (["dead_relu:off"], Asked(off=frozenset({"dead_relu"}))),
        (["overfit:patience=2,ratio_threshold=0.2"], Asked({"overfit": {"patience": "2", "ratio_threshold": "0.2"}})),
        (["all_zero:tensor_regex=a{1,2}b,threshold=50"],
         Asked({"all_zero": {"tensor_regex": "a{1,2}b", "threshold": "50"}})),
    ],
)  # fmt: skip
def test_rules_as_typed(typed: list[str], meant: Asked) -> None:
    assert parse(typed) == meant


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("dead_rellu", "dead_relu"),
        ("dead_relu:treshold_layer=3", "threshold_layer"),
        ("vanishing_gradient:threshold=small", "is a number"),
        ("exploding_tensor:only_nan=maybe", "true or false"),
        ("overfit:patience", "overfit:parameter=value"),
        ("deadrelu:off", "dead_relu"),
    ],
)
def test_what_is_no_rule_is_refused_with_the_nearest(typed: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        Engine({}, [typed])


@pytest.mark.parametrize("text", ["stop:info", "'open", "stop:now"])
def test_what_is_no_action_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        parse_action(text)


def course() -> list[Moment]:
    """A training that goes wrong in several ways, as moments."""
    draw = np.random.default_rng(0)
    rows = [f"{kind}/{name}" for kind in ("weight", "gradient", "update") for name in ("body.weight", "fc.weight")]
    rows += ["input/relu", "inputs", "outputs"]
    found = []
    for step in range(160):
        loss = 2.3 + 0.02 * float(draw.normal())
        found.append(Moment(step, time=1000.0 + step, scalars={"loss": loss, "lr": 0.1}))
        if step % 4 == 0:
            values = np.abs(draw.normal(1, 0.05, (len(rows), len(STATISTICS)))).astype(np.float32)
            values[:, STATISTICS.index("nonfinite")] = 0
            values[:, STATISTICS.index("zeros")] = 0.1
            values[6, STATISTICS.index("dead")] = 1.0
            values[8, STATISTICS.index("min")] = 0.0
            found.append(Moment(step, names=tuple(rows), values=values))
        if step % 40 == 39:
            ids = np.arange(200)
            own = Samples(ids, np.where(ids < 9, 4.0, 0.1).astype(np.float32), (ids % 10), None)
            labels = draw.integers(0, 10, 300)
            counts = np.zeros((10, 10), np.int64)
            np.add.at(counts, (labels, draw.integers(0, 10, 300)), 1)
            found.append(Moment(step, samples=own))
            found.append(Moment(step, "valid", scalars={"loss": loss, "accuracy": 0.1}, confusion=counts))
    return found


def write(moments: list[Moment], job: JobFolder, known: dict[str, Any]) -> None:
    """Put the moments into the records as a job does."""
    add_facts(job.records, **known)
    tensor, array = TensorWriter(job.records), ArrayWriter(job.records)
    with RecordWriter(job.records) as records:
        for moment in moments:
            if moment.scalars:
                records.scalars(moment.step, moment.scalars, moment.mode)
            if moment.values is not None:
                tensor.add(moment.step, moment.mode, moment.names, moment.values)
            if moment.samples is not None:
                columns = (moment.samples.ids, moment.samples.losses, moment.samples.predictions)
                array.add("samples", moment.step, moment.mode, np.column_stack(columns).astype(np.float32))
            if moment.confusion is not None:
                true, guessed = (
                    np.repeat(axis, moment.confusion.ravel()) for axis in np.indices((10, 10)).reshape(2, -1)
                )
                array.add("confusion", moment.step, moment.mode, cells(true, guessed))
    tensor.close()
    array.close()


def test_afterwards_the_rules_find_what_they_found_live(tmp_path: Path) -> None:
    known = facts(loss="cross_entropy", samples=200)
    engine = Engine(known, strict=True)
    for moment in course():
        engine.feed(moment)
    live = engine.close()
    assert len({each.rule for each in live if each.status == "IssuesFound"}) >= 4
    job = JobFolder(tmp_path)
    write(course(), job, known)
    assert evaluate(job, strict=True) == live


def test_tensors_and_counts_that_come_late_change_nothing() -> None:
    """The side thread may hear losses long before it gets to the tensors of their steps."""
    known = facts(loss="cross_entropy", samples=200)
    punctual, late = Engine(known, strict=True), Engine(known, strict=True)
    waiting: list[Moment] = []
    for moment in course():
        punctual.feed(moment)
        if moment.values is None and moment.samples is None and moment.confusion is None:
            late.feed(moment)
        else:
            waiting.append(replace(moment, scalars={}))
            if moment.scalars:
                late.feed(Moment(moment.step, moment.mode, scalars=moment.scalars))
        if len(waiting) > 5:
            late.feed(waiting.pop(0))
    for moment in waiting:
        late.feed(moment)
    assert late.close() == punctual.close()


def test_a_resumed_job_remembers_and_does_nothing_twice(tmp_path: Path) -> None:
    known, job = facts(loss="cross_entropy", samples=200), JobFolder(tmp_path)
    write(course(), job, known)
    engine = Engine(known, strict=True, folder=job, on_finding="stop:warning")
    replay(engine, job, until=120)
    assert not engine.actions
    assert not job.findings.exists()
    for moment in course():
        if moment.step >= 120:
            engine.feed(replace(moment, time=moment.time or 1.0))
    assert {each.rule: each.status for each in engine.close()} == {
        each.rule: each.status for each in evaluate(job, strict=True)
    }
    assert job.findings.exists()


def test_all_that_is_wrong_with_rules_and_action_is_said_at_once() -> None:
    with pytest.raises(SpecError, match=r"3 settings.*dead_rellu.*patiance.*stop:soon"):
        check(["dead_rellu", "overfit:patiance=3"], "stop:soon")
    check(["dead_relu:off"], "none")


def test_a_run_is_compared_with_others(tmp_path: Path) -> None:
    jobs = [JobFolder(tmp_path / name) for name in "abc"]
    for job, rate, shift in zip(jobs, (0.1, 0.2, 0.2), (0.0, 0.0, 0.1), strict=True):
        write(losses([2.0 + shift - 0.01 * step for step in range(20)]), job, {})
        job.spec.write_text(json.dumps({"lr": rate}))
    [found] = [each for each in evaluate(jobs[0], others=jobs[1:]) if each.rule == "similar_across_runs"]
    assert found.status == "IssuesFound"
    assert found.evidence["settings"] == ["lr"]
    assert found.evidence["other"] == "b"
