"""A chart of a profile."""

from houndsight.scripts.smdebug_charts import TimelineCharts

__all__ = [
    "TimelineCharts",
]
