"""Its names are here, so that a script can be told that Houndsight runs PyTorch scripts."""

from smdebug.tensorflow import *  # noqa: F403
from smdebug.tensorflow import __all__ as __all__
