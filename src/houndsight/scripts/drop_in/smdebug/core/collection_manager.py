"""Collections by name."""

from houndsight.scripts.smdebug_config import CollectionManager

__all__ = [
    "CollectionManager",
]
