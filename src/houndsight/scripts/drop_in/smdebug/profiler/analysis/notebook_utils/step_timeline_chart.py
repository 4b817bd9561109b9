"""A chart of a profile."""

from houndsight.scripts.smdebug_charts import StepTimelineChart

__all__ = [
    "StepTimelineChart",
]
