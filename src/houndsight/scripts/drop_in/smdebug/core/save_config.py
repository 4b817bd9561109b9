"""Which steps are saved."""

from houndsight.scripts.smdebug_config import SaveConfig, SaveConfigMode

__all__ = [
    "SaveConfig",
    "SaveConfigMode",
]
