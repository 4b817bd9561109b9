"""`houndsight evaluate` and `predict`: asking trained models."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from houndsight.cli.flags import Json, Place
from houndsight.cli.output import document, note, percent, say
from houndsight.errors import SpecError
from houndsight.verbs import evaluate as evaluating
from houndsight.verbs import predict as predicting


def evaluate(
    *operands: Annotated[
        str, Parameter(name="MODEL", help="A job, a folder or a model.tar.gz, perhaps a second one, then the images.")
    ],
    workspace: Place = None,
    json: Json = False,
) -> None:
    """Measure a model on labelled images; with two models, compare them on the same images.

    Data with a test split is measured on it; class folders alone are measured whole, unless the model was trained
    on them: then on the test images that were held back.
    """
    if len(operands) not in (2, 3):
        raise SpecError(
            f"evaluate takes one or two models and then the images, {len(operands)} arguments were given.",
            "Type `houndsight evaluate MODEL DATA` or `houndsight evaluate MODEL MODEL DATA`.",
        )
    model, *others, data = operands
    result = evaluating.evaluate(model, data, *others, workspace=workspace)
    if json:
        document(result.document())
        return
    for line in result.lines():
        say(line)


def predict(
    model: Annotated[str, Parameter(help="A job, a folder or a model.tar.gz.")],
    /,
    *images: Annotated[Path, Parameter(help="Image files.")],
    top: Annotated[int, Parameter(metavar="N", help="How many classes an image.")] = 5,
    workspace: Place = None,
    json: Json = False,
) -> int:
    """Name what is on some images, with calibrated probabilities.

    An image that cannot be read is reported in its place and makes the exit code 2; the others are answered.
    """
    if not images:
        raise SpecError("No images were given.", "Type `houndsight predict MODEL IMAGE...`.")
    results = predicting.predict(model, images, top=top, workspace=workspace)
    if json:
        document(results)
    else:
        for result in results:
            _write(result)
    return 2 if any("error" in result for result in results) else 0


def _write(result: dict[str, Any]) -> None:
    if "error" in result:
        note(f"{result['image']}: {result['error']['message']}")
        return
    say(result["image"])
    for each in result["predictions"]:
        say(f"  {percent(each['probability']):>7}  {each['class']}")
