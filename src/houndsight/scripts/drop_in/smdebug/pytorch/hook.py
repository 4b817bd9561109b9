"""The hook."""

from houndsight.scripts.smdebug_hook import Hook, del_hook, get_hook, set_hook

__all__ = [
    "Hook",
    "del_hook",
    "get_hook",
    "set_hook",
]
