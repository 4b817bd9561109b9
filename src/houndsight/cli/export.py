"""`houndsight export`: a trained model for other runtimes."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from houndsight.cli.flags import Json, Place
from houndsight.cli.output import document, megabytes, percent, say
from houndsight.errors import SpecError
from houndsight.verbs import export as exporting
from houndsight.verbs.repack import repack


def export(
    model: Annotated[str, Parameter(help="A job, a folder or a model.tar.gz.")],
    /,
    *,
    to: Annotated[str, Parameter(metavar="FORMAT", help="onnx, openvino, or sagemaker: a model.tar.gz.")],
    output: Annotated[
        Path | None, Parameter(metavar="DIR", help="Folder to write; else MODEL-FORMAT in this folder.")
    ] = None,
    entry_point: Annotated[
        str | None, Parameter(metavar="FILE", help="Of sagemaker: the script (inference.py) that answers.")
    ] = None,
    source_dir: Annotated[
        str | None, Parameter(metavar="DIR", help="Of sagemaker: its folder, which becomes code/ of the archive.")
    ] = None,
    workspace: Place = None,
    json: Json = False,
) -> None:
    """Write a model for another runtime, and check it on the model's own validation images.

    ONNX and OpenVINO take pixels (n, S, S, 3) of 0 to 255 and give logits and calibrated probabilities; normalisation
    is inside. For sagemaker the model's files and the script that answers are packed as its SDK packs them.
    """
    if to == "sagemaker":
        packed = repack(model, entry_point, source_dir, output=output, workspace=workspace)
        if json:
            document({"model": str(packed), "bytes": packed.stat().st_size})
        else:
            say(f"{packed}: {megabytes(packed.stat().st_size)}")
        return
    if entry_point or source_dir:
        raise SpecError(f"A model for {to} has no script.", "Leave --entry-point out, or add --to sagemaker.")
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
