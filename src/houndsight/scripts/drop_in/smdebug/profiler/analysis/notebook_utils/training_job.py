"""A job by its name."""

from houndsight.scripts.smdebug_metrics import TrainingJob

__all__ = [
    "TrainingJob",
]
