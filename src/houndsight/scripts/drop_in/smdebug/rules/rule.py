"""A rule of one's own."""

from houndsight.scripts.smdebug_rules import Rule

__all__ = [
    "Rule",
]
