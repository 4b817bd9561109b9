"""What trainings saved."""

from houndsight.scripts.smdebug_sources import create_trial
from houndsight.scripts.smdebug_trial import Trial

__all__ = [
    "Trial",
    "create_trial",
]
