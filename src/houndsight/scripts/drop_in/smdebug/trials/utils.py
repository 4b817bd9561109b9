"""How trials are found."""

from houndsight.scripts.smdebug_sources import create_trial

__all__ = [
    "create_trial",
]
