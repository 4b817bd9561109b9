"""Words and times."""

from houndsight.scripts.smdebug_metrics import TimeUnits, str2bool, us_since_epoch_to_human_readable_time

__all__ = [
    "TimeUnits",
    "str2bool",
    "us_since_epoch_to_human_readable_time",
]
