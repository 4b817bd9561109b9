"""Rules of one's own."""

from houndsight.scripts.smdebug_rules import RequiredTensors, RequiredTensorsForTrial, Rule, invoke_rule

__all__ = [
    "RequiredTensors",
    "RequiredTensorsForTrial",
    "Rule",
    "invoke_rule",
]
