"""Modes."""

from houndsight.scripts.smdebug_errors import ModeKeys

ALLOWED_MODES = list(ModeKeys)
ALLOWED_MODE_NAMES = [each.name for each in ModeKeys]

__all__ = [
    "ALLOWED_MODES",
    "ALLOWED_MODE_NAMES",
    "ModeKeys",
]
