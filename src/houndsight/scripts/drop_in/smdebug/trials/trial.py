"""What one training saved."""

from houndsight.scripts.smdebug_trial import Tensor, Trial

__all__ = [
    "Tensor",
    "Trial",
]
