"""Profiles as tables."""

from houndsight.scripts.smdebug_frames import PandasFrame

__all__ = [
    "PandasFrame",
]
