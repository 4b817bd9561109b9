"""Findings about single files: unreadable, constant, tiny, huge, stretched, grey among colour; part of `data.check`."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from houndsight.data.looks import File, Look
from houndsight.errors import plural
from houndsight.spec import Finding, Index
