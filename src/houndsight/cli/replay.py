"""`houndsight replay`: do one step of a training again and say where it went bad."""

from typing import Annotated

from cyclopts import Parameter

from houndsight.cli.flags import Json, Place
from houndsight.cli.output import document, say
from houndsight.verbs import replay as verbs


def replay(
    job: Annotated[str, Parameter(help="Name of the job.")],
    /,
    *,
    step: Annotated[
        int | None, Parameter(metavar="N", help="The step, from 0; by default the one written down last.")
    ] = None,
    workspace: Place = None,
    json: Json = False,
) -> None:
    """Do one step of a training again, from the checkpoint before it, and say what went bad in it."""
    found = verbs.replay(job, step, workspace=workspace)
    if json:
        document(found.model_dump(mode="json"))
        return
    say(found.message)
    for path in found.files[:8]:
        say(f"  {path}")
    if len(found.files) > 8:
        say(f"  and {len(found.files) - 8} more")
    if found.same is False:
        say("The losses on the way are not those of the first run to the last bit: give --threads 1 to train so.")
    say(f"Statistics of the steps before it: {found.folder}")
