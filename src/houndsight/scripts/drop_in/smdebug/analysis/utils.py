"""Whether trials see what has come since."""

from houndsight.scripts.smdebug_trial import no_refresh, refresh

__all__ = [
    "no_refresh",
    "refresh",
]
