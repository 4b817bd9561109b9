"""A chart of a profile."""

from houndsight.scripts.smdebug_charts import MetricsHistogram

__all__ = [
    "MetricsHistogram",
]
