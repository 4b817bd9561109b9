"""What the machine did."""

from houndsight.scripts.smdebug_metrics import LocalSystemMetricsReader, ProfilerSystemEvents, S3SystemMetricsReader

__all__ = [
    "LocalSystemMetricsReader",
    "ProfilerSystemEvents",
    "S3SystemMetricsReader",
]
