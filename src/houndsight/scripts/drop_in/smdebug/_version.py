"""The version: newer than any of the package index, so that installers leave it alone."""

__version__ = "1.99.0"
