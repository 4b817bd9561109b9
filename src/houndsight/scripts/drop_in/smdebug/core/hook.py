"""The hook."""

from houndsight.scripts.smdebug_hook import Hook
from houndsight.scripts.smdebug_hook import Hook as BaseHook
from houndsight.scripts.smdebug_hook import Hook as CallbackHook

__all__ = [
    "BaseHook",
    "CallbackHook",
    "Hook",
]
