"""What the look found meets what the rules saw: in the findings, at the head of the log, on the page, in `--json`."""

import json
import re
from pathlib import Path

import pytest

import houndsight.contract
from houndsight.contract.look_found import at, merged
from houndsight.contract.look_source import Place
from houndsight.reports import summary
from houndsight.spec import Finding
from houndsight.verbs.run import run
from houndsight.workspace import Workspace

CODE = """
if False:
    import torch
    import torch.nn as nn

    model = nn.Sequential(nn.Linear(4, 2), nn.ReLU())
    criterion = nn.CrossEntropyLoss()
    loss = criterion(model(torch.ones(1, 4)), torch.tensor([0]))
    loss.backward()
print("Average loss: 0.5")
"""


def found(rule: str, line: int = 7) -> Finding:
    return at(rule, "warning", [Place("train_model.py", line, "nn.ReLU()")], "{at}: ReLU.", "Leave it out.")


def seen(rule: str, status: str) -> Finding:
    return Finding.model_validate({"source": "debugger", "rule": rule, "status": status, "message": "Seen.", "step": 3})


def test_a_rule_that_found_the_same_gets_the_line() -> None:
    (one,) = merged([seen("head_outputs", "IssuesFound")], [found("head_outputs")])
    assert (one.source, one.status, one.step) == ("debugger", "IssuesFound", 3)
    assert one.message == "Seen. See train_model.py, line 7."
    assert one.repair == "Leave it out."
    assert one.evidence["code"] == "nn.ReLU()"


def test_a_rule_that_could_not_look_gives_way() -> None:
    looked = [found("head_outputs"), found("no_grad"), found("no_grad", 9)]
    both = merged([seen("head_outputs", "NotApplicable"), seen("overfit", "NoIssuesFound")], looked)
    assert [(each.rule, each.status) for each in both] == [
        ("overfit", "NoIssuesFound"),
        ("head_outputs", "IssuesFound"),
        ("no_grad", "IssuesFound"),
        ("no_grad", "IssuesFound"),
    ]
    assert merged(both, []) == both


def test_a_job_says_it_in_its_log_its_findings_and_on_its_page(workspace: Workspace, tmp_path: Path) -> None:
    script = tmp_path / "train_model.py"
    script.write_text(CODE)
    job = run(script, backend="inline", cold=True)
    document = job.document()
    (wrong,) = [each for each in document["findings"] if each["rule"] == "head_outputs"]
    assert (wrong["source"], wrong["evidence"]["file"], wrong["evidence"]["line"]) == ("script", "train_model.py", 6)
    assert {"no_seed"} <= {each["rule"] for each in document["findings"]}
    said = json.loads(job.files.findings.read_bytes())
    assert said["actions"] == []
    assert job.report is not None
    page = job.report.read_text()
    assert "train_model.py:6" in page
    assert "nn.Sequential(nn.Linear(4, 2), nn.ReLU())" in page
    summary.build(job.files)


@pytest.mark.slow
def test_a_script_that_is_no_python_says_so_before_it_is_started(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "train_model.py").write_text("print('began')\n")
    (tmp_path / "inference.py").write_text("def model_fn(model_dir):\n    return (1\n")
    job = run("train_model.py", source_dir=tmp_path, cold=True)
    assert job.state == "COMPLETED"
    (wrong,) = [each for each in job.findings if each.source == "script"]
    assert (wrong.rule, wrong.severity, wrong.evidence["file"]) == ("syntax", "error", "inference.py")
    log = job.logs()
    assert log.index("inference.py, line 2: SyntaxError") < log.index("began")


def test_every_rule_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "look.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    source = "".join(
        path.read_text(encoding="utf-8") for path in Path(houndsight.contract.__path__[0]).glob("look_*.py")
    )
    said = set(re.findall(r'issue\(\s*\w+,\s*"(\w+)"', source)) | set(re.findall(r'\bat\(\s*"(\w+)"', source))
    assert named == said
