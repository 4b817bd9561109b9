"""The root of the command line: names and one sentence a command; a command's file is imported when it is typed."""

import errno
import logging
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from cyclopts import App, Parameter
from cyclopts.exceptions import CycloptsError, UnknownCommandError

from houndsight.cli.output import failed, note
from houndsight.errors import HoundsightError, RequestError, did_you_mean

COMMANDS = {
    "demo": ("demo:demo", "The whole way on real images, on this machine, in about a minute."),
    "check": ("check:check", "Read all images, train nothing, and say what is wrong with the data."),
    "train": ("train:train", "Train a classifier on a folder of images."),
    "run": ("run:run", "Run a SageMaker training script as a job, as it is."),
    "evaluate": ("models:evaluate", "Measure a model on labelled images; with two models, compare them."),
    "predict": ("models:predict", "Name what is on some images."),
    "report": ("jobs:report", "Build a job's page again and open it."),
    "jobs": ("jobs:jobs", "List the jobs."),
    "logs": ("jobs:logs", "Show what a job printed."),
    "stop": ("jobs:stop", "Stop a job; it can go on later."),
}
WEIGHTS = {
    "list": ("weights:list_", "List the weights at hand."),
    "add": ("weights:add", "Add a file of weights."),
    "fetch": ("weights:fetch", "Download published weights."),
}
DEFAULTS = Parameter(negative=(), show_default=False)
"""No `--no-json`, no `[default: False]`."""
USAGE = {"evaluate": "Usage: houndsight evaluate [OPTIONS] MODEL [MODEL] DATA"}


def build() -> App:
    """The command line; nothing of Houndsight but this file and the errors is imported by it."""
    # Plain text: the root's help then costs 0.26 s instead of 0.36 s with markdown.
    app = App(
        name="houndsight",
        help="From a folder of labelled images to a tuned, inspected and deployed classifier.",
        help_format="plaintext",
        version=_version,
        default_parameter=DEFAULTS,
    )
    weights = App(
        name="weights", help="The cache of pretrained weights that training and scripts share.", sort_key=len(COMMANDS)
    )
    for parent, commands in ((app, COMMANDS), (weights, WEIGHTS)):
        for order, (name, (place, sentence)) in enumerate(commands.items()):
            parent.command(f"houndsight.cli.{place}", name=name, help=sentence, usage=USAGE.get(name), sort_key=order)
    app.command(weights)
    return app


def _version() -> str:
    from importlib.metadata import version

    return version("houndsight")


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns 0 when done, 1 when a job failed, 2 when the request was wrong."""
    as_json = "--json" in arguments
    try:
        app = build()
        command, bound, unused, _ = app.parse_known_args(arguments)
        if unused:
            raise _not_understood(app, arguments, unused)
        return command(*bound.args, **bound.kwargs) or 0
    except UnknownCommandError as error:
        return failed(_no_such_command(error), as_json)
    except CycloptsError as error:
        error.verbose = False
        return failed(RequestError(str(error), "Type `houndsight --help`."), as_json)
    except HoundsightError as error:
        return failed(error, as_json)
    except KeyboardInterrupt:
        return 1


def _not_understood(app: App, arguments: Sequence[str], unused: Sequence[str]) -> RequestError:
    """Name every option that the command does not have, or else the arguments that are one too many."""
    names, apps, _ = app.parse_commands(arguments)
    known = [
        name
        for argument in apps[-1].assemble_argument_collection(default_parameter=DEFAULTS)
        for name in argument.names
    ]
    options = [each.partition("=")[0] for each in unused if each.startswith("-")]
    said = [f"There is no option {each}. {did_you_mean(each, known)}".strip() for each in options]
    said = said or [f"Nobody asked for {', '.join(map(repr, unused))}."]
    return RequestError(" ".join(said), f"Type `houndsight {' '.join(names)} --help`.")


def _no_such_command(error: UnknownCommandError) -> RequestError:
    typed = (error.unused_tokens or [""])[0]
    known = [*COMMANDS, "weights", *WEIGHTS]
    return RequestError(f"There is no command '{typed}'.", did_you_mean(typed, known) or "Type `houndsight --help`.")


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
