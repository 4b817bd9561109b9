"""The steps of the training."""

from houndsight.scripts.smdebug_metrics import LocalAlgorithmMetricsReader, S3AlgorithmMetricsReader

__all__ = [
    "LocalAlgorithmMetricsReader",
    "S3AlgorithmMetricsReader",
]
