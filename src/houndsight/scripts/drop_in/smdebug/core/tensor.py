"""A tensor through the steps."""

from houndsight.scripts.smdebug_store import StepState
from houndsight.scripts.smdebug_trial import Tensor

__all__ = [
    "StepState",
    "Tensor",
]
