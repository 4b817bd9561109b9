"""Charts of a profile."""

from houndsight.scripts.smdebug_charts import MetricsHistogram, StepHistogram
from houndsight.scripts.smdebug_metrics import TrainingJob

__all__ = [
    "MetricsHistogram",
    "StepHistogram",
    "TrainingJob",
]
