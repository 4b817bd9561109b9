"""Collections of tensors."""

from houndsight.scripts.smdebug_config import Collection, CollectionKeys, CollectionManager

__all__ = [
    "Collection",
    "CollectionKeys",
    "CollectionManager",
]
