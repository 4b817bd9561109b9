"""The hook of the process."""

from houndsight.scripts.smdebug_hook import del_hook, get_hook, set_hook

__all__ = [
    "del_hook",
    "get_hook",
    "set_hook",
]
