"""How a rule is asked."""

from houndsight.scripts.smdebug_rules import invoke_rule

__all__ = [
    "invoke_rule",
]
