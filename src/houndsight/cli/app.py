"""The program `houndsight`: its own help at once, everything else through the parser."""

import errno
import logging
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from houndsight.cli.commands import root_help
from houndsight.cli.output import note, say


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns 0 when done, 1 when a job failed, 2 when the request was wrong."""
    if list(arguments) in ([], ["--help"], ["-h"]):
        say(root_help())  # without the parser, whose import and page cost 0.25 s
        return 0
    from houndsight.cli.parse import call

    return call(arguments)


def main() -> None:
    """The program `houndsight`."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("houndsight").setLevel(logging.INFO)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name may hold what no encoding can write
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        if error.errno == errno.ENOSPC:
            note("houndsight: the result could not be written whole: no room left on the disk.")
        # Where the reader has gone nothing is said; Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)
