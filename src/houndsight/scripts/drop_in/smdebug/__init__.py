"""`smdebug` for scripts and notebooks that import it: the same names, with Houndsight behind them."""

from houndsight.scripts.smdebug_config import CollectionKeys, ReductionConfig, SaveConfig, SaveConfigMode
from houndsight.scripts.smdebug_errors import ModeKeys

__version__ = "1.99.0"
modes = ModeKeys

__all__ = [
    "CollectionKeys",
    "ReductionConfig",
    "SaveConfig",
    "SaveConfigMode",
    "__version__",
    "modes",
]
