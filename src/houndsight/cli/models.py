"""`houndsight evaluate` and `predict`: asking trained models."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from houndsight.cli.flags import Json, Place
from houndsight.cli.follow import Bar
from houndsight.cli.output import document, duration, note, percent, say, table
from houndsight.errors import SpecError
from houndsight.records.progress import Snapshot
from houndsight.results import Measure
from houndsight.verbs import batch
from houndsight.verbs import evaluate as evaluating
from houndsight.verbs import predict as predicting
from houndsight.verbs.measured import Measured

SHARES = ("top1", "top5", "balanced_accuracy", "macro_f1", "ece", "ece_uncalibrated")


def evaluate(
    *operands: Annotated[
        str, Parameter(name="MODEL", help="A job, a folder or a model.tar.gz, perhaps a second one, then the images.")
    ],
    workspace: Place = None,
    json: Json = False,
) -> None:
    """Measure a model on labelled images; with two models, compare them on the same images.

    Data with a test split is measured on it; class folders alone are measured whole, unless the model was trained
    on them: then on the images that were held back.
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
    for each in (result, result.other):
        if each is not None:
            _write_measured(each)
    if result.comparison is not None and result.other is not None:
        test = result.comparison.test
        say(f"{result.name} minus {result.other.name}: {_interval(result.comparison.difference)}")
        say(f"  right where the other errs: {test.only_a} against {test.only_b} images; McNemar p {test.p_value:.3g}")


def _write_measured(result: Measured) -> None:
    measures = result.metrics
    say(f"{result.name} on {result.images}, {measures['top1'].n} of them, in {duration(result.seconds)}")
    rows = [(name, _interval(measures[name])) for name in SHARES if name in measures]
    table(rows, ("MEASURE", "VALUE (95 % INTERVAL)"))
    scores = result.evaluation.per_class
    worst = sorted((each for each in scores if each.support), key=lambda each: each.recall.value)[:5]
    say(f"hardest: {', '.join(f'{each.name} {percent(each.recall.value)}' for each in worst)}")


def _interval(measure: Measure) -> str:
    return f"{percent(measure.value)} ({percent(measure.low)} to {percent(measure.high)})"


def predict(
    model: Annotated[str, Parameter(help="A job, a folder or a model.tar.gz.")],
    /,
    *images: Annotated[Path, Parameter(help="Image files, or one folder with --output.")],
    output: Annotated[
        Path | None, Parameter(metavar="CSV", help="Write a row for every image of the folder; again goes on.")
    ] = None,
    top: Annotated[int, Parameter(metavar="N", help="How many classes an image.")] = 5,
    workspace: Place = None,
    json: Json = False,
) -> int:
    """Name what is on some images, with calibrated probabilities.

    An image that cannot be read is reported in its place and makes the exit code 2; the others are answered. With
    --output all images of a folder, however many, go into a table; the same command goes on where it was ended.
    """
    if not images:
        raise SpecError("No images were given.", "Type `houndsight predict MODEL IMAGE...`.")
    folders = [each for each in images if each.expanduser().is_dir()]
    if output is not None:
        if len(images) != 1:
            raise SpecError(f"--output takes one folder of images, {len(images)} paths were given.")
        return _predict_folder(model, images[0], output, top, workspace, json)
    if folders:
        raise SpecError(
            f"{folders[0]} is a folder.", f"Type `houndsight predict {model} {folders[0]} --output predictions.csv`."
        )
    results = predicting.predict(model, images, top=top, workspace=workspace)
    if json:
        document(results)
    else:
        for result in results:
            _write_predictions(result)
    return 2 if any("error" in result for result in results) else 0


def _predict_folder(model: str, folder: Path, output: Path, top: int, workspace: str | None, as_json: bool) -> int:
    with Bar(sys.stderr) as bar:
        result = batch.predict_folder(model, folder, output, top=top, workspace=workspace, progress=_Drawn(bar))
    if as_json:
        document(result.document())
    else:
        before = result.images - result.fresh
        rate = f", {result.rate:.1f} a second" if result.fresh else ""
        say(f"{result.output}: {result.images:,} images ({result.fresh:,} in {duration(result.seconds)}{rate})")
        if before:
            say(f"  {before:,} of them were there before")
        if result.skipped:
            say(f"  {result.skipped:,} files of {folder} are not images")
        for each in result.unreadable:
            note(f"{each['path']}: {each['error']}")
        if result.errors > len(result.unreadable):
            note(f"... and {result.errors - len(result.unreadable):,} more; the table's column 'error' has them all.")
    return 2 if result.errors else 0


class _Drawn:
    """Draws a stage with its rate at most four times a second; fits `workspace.Progress`."""

    def __init__(self, bar: Bar) -> None:
        self._bar, self._stage = bar, ""
        self._began = self._drawn = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show how far it is."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._began = stage, now
        elif now - self._drawn < 0.25 and done < total:
            return
        self._drawn = now
        rate = done / (now - self._began) if done and now > self._began else None
        self._bar.show(Snapshot(stage, done, total, rate, (total - done) / rate if rate else None))


def _write_predictions(result: dict[str, Any]) -> None:
    if "error" in result:
        note(f"{result['image']}: {result['error']['message']}")
        return
    say(result["image"])
    for each in result["predictions"]:
        say(f"  {percent(each['probability']):>7}  {each['class']}")
