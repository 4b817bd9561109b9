"""The flags that every command shares."""

from typing import Annotated

from cyclopts import Parameter

Json = Annotated[bool, Parameter(help="Print one JSON document on standard output and nothing else there.")]
Place = Annotated[
    str | None,
    Parameter(name="--workspace", metavar="DIR", help="Where jobs lie; else $HOUNDSIGHT_HOME, else ./runs."),
]
OptMl = Annotated[
    str, Parameter(metavar="WORD", help="Stand the job at /opt/ml for the script: auto (where its code names it), "
                   "always, never. [auto]")
]  # fmt: skip
AllowRequirements = Annotated[
    bool, Parameter(help="Install what requirements.txt asks for and is missing, and a package, once per content.")
]
TrustPickle = Annotated[
    bool, Parameter(help="Let torch.load run what the job's own files hold: whole modules are programs.")
]
S3Endpoint = Annotated[
    str | None, Parameter(metavar="URL", help="S3 server for channels and for the script itself; else Amazon's.")
]
Cold = Annotated[bool, Parameter(help="Start a new Python instead of forking a warm process.")]
