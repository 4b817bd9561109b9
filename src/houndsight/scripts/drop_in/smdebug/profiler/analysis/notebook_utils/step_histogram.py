"""A chart of a profile."""

from houndsight.scripts.smdebug_charts import StepHistogram

__all__ = [
    "StepHistogram",
]
