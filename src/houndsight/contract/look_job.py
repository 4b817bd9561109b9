"""The look at a job's script where the job meets it: into its findings and its log first, and again at its end."""

import json
import logging
from pathlib import Path

from houndsight.contract.environment import this_machine
from houndsight.contract.look import beside, look, sentences
from houndsight.contract.look_found import merged
from houndsight.folders import JobFolder
from houndsight.spec import Finding, ScriptSpec
from houndsight.workspace import write_json

log = logging.getLogger("houndsight")

OBJECTIVE = "_tuning_objective_metric"
"""Hyperparameter of a trial: the name of the metric by which its tuning chooses."""


def begin(job: JobFolder, spec: ScriptSpec, cores: int, gpus: int) -> list[Finding]:
    """Look at the job's code, write what was found to its findings, and say the worst of it in the log."""
    looked = looked_at(
        job.code,
        spec.entry_point,
        inference=beside(Path(spec.source_dir), spec.entry_point) if spec.alone else None,
        tuned=spec.metrics.get(str(spec.hyperparameters.get(OBJECTIVE, "")).strip('"'), ""),
        cores=cores,
        gpus=gpus,
    )
    for each in sentences(looked):
        log.warning("%s", each)
    if looked:
        write_json(job.findings, {"findings": [each.model_dump(mode="json") for each in looked], "actions": []})
    return looked


def looked_at(
    code: Path, entry_point: str, *, inference: Path | None, tuned: str, cores: int, gpus: int
) -> list[Finding]:
    """What `look` finds; a mistake of its own ends no job, but is a finding that says so."""
    try:
        return look(code, entry_point, inference=inference, tuned=tuned, cores=cores, gpus=gpus)
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        OSError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        message = f"The look at {entry_point} failed by a mistake of its own ({type(error).__name__}: {error})."
        return [Finding(source="script", rule="look", status="Error", severity="info", message=message)]


def of_answers(job: JobFolder | None, script: Path) -> list[Finding]:
    """What is to be told of a script that is to answer: of itself, and beside the training script of the job."""
    machine = this_machine()
    code, entry_point, inference = script.parent, script.name, None
    if job is not None and (job.code / (spec := ScriptSpec.read(job.spec)).entry_point).is_file():
        code, entry_point, inference = job.code, spec.entry_point, script
    found = looked_at(code, entry_point, inference=inference, tuned="", cores=machine.cpus, gpus=machine.gpus)
    return [each for each in found if each.evidence.get("file") == script.name]


def end(job: JobFolder, looked: list[Finding]) -> None:
    """Join what the rules wrote while the script ran with what the look found."""
    if not looked:
        return
    held = json.loads(job.findings.read_bytes()) if job.findings.is_file() else {"findings": [], "actions": []}
    seen = [Finding.model_validate(each) for each in held["findings"]]
    joined = merged([each for each in seen if each not in looked], looked)
    write_json(job.findings, {**held, "findings": [each.model_dump(mode="json") for each in joined]})
