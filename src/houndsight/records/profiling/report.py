"""What one rule of SageMaker's profiler reports, in the shape in which SageMaker writes it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from houndsight.spec import Finding
from houndsight.workspace import write_json

SECONDS = 20.0
"""A rule speaks from this second on; SageMaker's waited for 1000 samples, 500 seconds."""

FindingStatus = Literal["InProgress", "NoIssuesFound", "IssuesFound", "NotApplicable", "Error"]


@dataclass(frozen=True)
class Report:
    """What one rule found, in SageMaker's words."""

    rule: str
    """SageMaker's name, such as `CPUBottleneck`."""
    status: FindingStatus
    """IssuesFound, NoIssuesFound, or NotApplicable with the reason in `message`."""
    message: str
    """What was seen, or why nothing can be said."""
    repair: str = ""
    """What to do."""
    triggered: int = 0
    """How often its condition was met."""
    violations: int = 0
    """Data points that are against it."""
    datapoints: int = 0
    """Data points it looked at."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Its parameters."""
    details: dict[str, Any] = field(default_factory=dict)
    """What SageMaker's report draws."""
    step: int | None = None
    """Where it was seen."""

    def finding(self) -> Finding:
        """As findings are everywhere."""
        return Finding(
            source="profiler",
            rule=snake_case(self.rule),
            status=self.status,
            severity="warning" if self.status == "IssuesFound" else "info",
            step=self.step,
            message=self.message,
            repair=self.repair,
            evidence={"rule": self.rule, "violations": self.violations, "datapoints": self.datapoints},
        )

    def document(self) -> dict[str, Any]:
        """As SageMaker writes `profiler-reports/<Rule>.json`."""
        return {
            "RuleTriggered": self.triggered,
            "Violations": self.violations,
            "Details": self.details,
            "Datapoints": self.datapoints,
            "RuleParameters": "\n".join(f"{name}:{value}" for name, value in self.parameters.items()),
        }


def snake_case(name: str) -> str:
    """`CPUBottleneck` -> `cpu_bottleneck`."""
    found = ""
    for at, letter in enumerate(name):
        after = name[at + 1 : at + 2]
        starts = letter.isupper() and at > 0 and (name[at - 1].islower() or after.islower())
        found += ("_" if starts else "") + letter.lower()
    return found


def write(folder: Path, report: Report) -> None:
    """Write one report as `<Rule>.json`."""
    write_json(folder / f"{report.rule}.json", json.loads(json.dumps(report.document())))
