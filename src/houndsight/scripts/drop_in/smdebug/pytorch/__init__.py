"""The hook of PyTorch's scripts."""

from houndsight.scripts.smdebug_config import Collection, CollectionKeys, ReductionConfig, SaveConfig, SaveConfigMode
from houndsight.scripts.smdebug_errors import ModeKeys
from houndsight.scripts.smdebug_hook import (
    EstimatorHook,
    Hook,
    KerasHook,
    SessionHook,
    del_hook,
    get_hook,
    set_hook,
    wrap_optimizer,
)
from houndsight.scripts.smdebug_sources import create_trial

modes = ModeKeys

__all__ = [
    "Collection",
    "CollectionKeys",
    "EstimatorHook",
    "Hook",
    "KerasHook",
    "ReductionConfig",
    "SaveConfig",
    "SaveConfigMode",
    "SessionHook",
    "create_trial",
    "del_hook",
    "get_hook",
    "modes",
    "set_hook",
    "wrap_optimizer",
]
