"""What came of measuring one model, or two on the same images; `evaluate` returns it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from houndsight.metrics import McNemar
from houndsight.results import Evaluation, Measure


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images."""

    difference: Measure
    """Accuracy of the first minus that of the second, with its 95 % interval."""
    test: McNemar
    """Whether the two err equally often."""


@dataclass(frozen=True)
class Measured:
    """One model on some data, and the second one beside it where two were given."""

    name: str
    """The model as it was named."""
    model: Path
    """The artifact."""
    images: str
    """Which of the data's images were measured, in words."""
    evaluation: Evaluation
    """Every measure, the confusion and the calibration."""
    seconds: float
    """How long it took."""
    other: "Measured | None" = None
    """The second model."""
    comparison: Comparison | None = None
    """The first against the second."""

    @property
    def metrics(self) -> dict[str, Measure]:
        """Metric -> value with its 95 % interval."""
        return self.evaluation.metrics

    def document(self) -> dict[str, Any]:
        """What `houndsight evaluate --json` prints: the keys of a training's document, and the whole evaluation."""
        folder = self.model.parent if self.model.name == "model" else self.model
        page = folder / "report.html"
        document: dict[str, Any] = {
            "job": self.name,
            "state": "COMPLETED",
            "folder": str(folder),
            "model": str(self.model),
            "report": str(page) if page.is_file() else None,
            "seconds": round(self.seconds, 3),
            "metrics": {"test": {name: each.model_dump() for name, each in self.metrics.items()}},
            "findings": [],
            "images": self.images,
            "evaluation": self.evaluation.model_dump(mode="json"),
        }
        if self.other is not None and self.comparison is not None:
            document["other"] = self.other.document()
            document["comparison"] = {
                "difference": self.comparison.difference.model_dump(),
                "mcnemar": asdict(self.comparison.test),
            }
        return document
