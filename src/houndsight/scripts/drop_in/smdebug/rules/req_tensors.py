"""What a rule needs."""

from houndsight.scripts.smdebug_rules import RequiredTensors, RequiredTensorsForTrial

__all__ = [
    "RequiredTensors",
    "RequiredTensorsForTrial",
]
