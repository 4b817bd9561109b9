"""Parsing: from the table of commands to a call; a command's file is imported when it is typed."""

from collections.abc import Sequence

from cyclopts import App, Parameter
from cyclopts.exceptions import CycloptsError, UnknownCommandError

from houndsight.cli.commands import ABOUT, ABOUT_WEIGHTS, COMMANDS, WEIGHTS
from houndsight.cli.output import failed
from houndsight.errors import HoundsightError, RequestError, did_you_mean

DEFAULTS = Parameter(negative=(), show_default=False)
"""No `--no-json`, no `[default: False]`."""
USAGE = {"evaluate": "Usage: houndsight evaluate [OPTIONS] MODEL [MODEL] DATA"}


def build() -> App:
    """The command line; nothing of Houndsight but this file and the errors is imported by it."""
    app = App(
        name="houndsight",
        help=ABOUT,
        help_format="plaintext",
        version=_version,
        default_parameter=DEFAULTS,
    )
    weights = App(name="weights", help=ABOUT_WEIGHTS, sort_key=len(COMMANDS))
    for parent, commands in ((app, COMMANDS), (weights, WEIGHTS)):
        for order, (name, (place, sentence)) in enumerate(commands.items()):
            parent.command(f"houndsight.cli.{place}", name=name, help=sentence, usage=USAGE.get(name), sort_key=order)
    app.command(weights)
    return app


def _version() -> str:
    from importlib.metadata import version

    return version("houndsight")


def call(arguments: Sequence[str]) -> int:
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
