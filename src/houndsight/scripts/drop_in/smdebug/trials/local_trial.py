"""What one training saved."""

from houndsight.scripts.smdebug_trial import Trial as LocalTrial

__all__ = [
    "LocalTrial",
]
