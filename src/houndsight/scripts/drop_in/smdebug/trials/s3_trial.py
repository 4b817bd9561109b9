"""What one training saved."""

from houndsight.scripts.smdebug_trial import Trial as S3Trial

__all__ = [
    "S3Trial",
]
