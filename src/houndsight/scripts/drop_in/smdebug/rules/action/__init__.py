"""What is done when a rule has found something."""

from houndsight.scripts.smdebug_rules import Actions

__all__ = [
    "Actions",
]
