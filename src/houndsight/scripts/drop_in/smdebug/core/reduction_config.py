"""What is saved in place of a tensor."""

from houndsight.scripts.smdebug_config import NORMS as ALLOWED_NORMS
from houndsight.scripts.smdebug_config import REDUCTIONS as ALLOWED_REDUCTIONS
from houndsight.scripts.smdebug_config import ReductionConfig

__all__ = [
    "ALLOWED_NORMS",
    "ALLOWED_REDUCTIONS",
    "ReductionConfig",
]
