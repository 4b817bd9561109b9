"""The logger."""

import logging


def get_logger(name: str = "houndsight") -> logging.Logger:
    """The one that messages go to."""
    return logging.getLogger(name)


__all__ = [
    "get_logger",
]
