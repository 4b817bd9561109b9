"""The flags that every command shares."""

from typing import Annotated

from cyclopts import Parameter

Json = Annotated[bool, Parameter(help="Print one JSON document on standard output and nothing else there.")]
Place = Annotated[
    str | None,
    Parameter(name="--workspace", metavar="DIR", help="Where jobs lie; else $HOUNDSIGHT_HOME, else ./runs."),
]
Cold = Annotated[bool, Parameter(help="Start a new Python instead of forking a warm process.")]
