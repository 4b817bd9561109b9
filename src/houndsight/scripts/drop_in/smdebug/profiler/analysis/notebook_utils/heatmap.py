"""A chart of a profile."""

from houndsight.scripts.smdebug_charts import Heatmap

__all__ = [
    "Heatmap",
]
