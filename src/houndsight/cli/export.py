"""`houndsight export`: a trained model for other runtimes."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from houndsight.cli.flags import Json, Place
from houndsight.cli.output import document, megabytes, percent, say
from houndsight.verbs import export as exporting


def export(
    model: Annotated[str, Parameter(help="A job, a folder or a model.tar.gz.")],
    /,
    *,
    to: Annotated[str, Parameter(metavar="FORMAT", help="onnx or openvino.")],
    output: Annotated[
        Path | None, Parameter(metavar="DIR", help="Folder to write; else MODEL-FORMAT in this folder.")
    ] = None,
    workspace: Place = None,
    json: Json = False,
) -> None:
    """Write a model for another runtime, and check it on the model's own validation images.

    It takes pixels (n, S, S, 3) of 0 to 255 and gives logits and calibrated probabilities; normalisation is inside.
    """
    folder, found = exporting.export(model, to, output, workspace=workspace)
    if json:
        document({"folder": str(folder), **found.model_dump()})
        return
    say(f"{folder / found.file}: {megabytes(found.bytes)}")
    say(
        f"  the same class as the model on {percent(found.agreement)} of its {found.images} validation images, "
        f"probabilities off by {found.difference:.1g} at most, by {found.checked_by}"
    )
    say(f"  classes and preprocessing: {folder / 'model.json'}")
