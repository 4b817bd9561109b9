"""Collections of tensors."""

from houndsight.scripts.smdebug_config import Collection, CollectionKeys

__all__ = [
    "Collection",
    "CollectionKeys",
]
