"""The endpoint's own page: drop an image, see the classes, the latency and what the instances are doing."""

from functools import cache
from html import escape
from pathlib import Path


@cache
def page(name: str) -> str:
    """The HTML of the endpoint `name`; self-contained."""
    return Path(__file__).with_name("page.html").read_text(encoding="utf-8").replace("{{name}}", escape(name))
