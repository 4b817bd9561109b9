"""`houndsight demo`: the whole way of the data on real images, with a word about each station."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from houndsight.cli.flags import Json, Place
from houndsight.cli.follow import follow
from houndsight.cli.output import document, duration, note, percent, say
from houndsight.spec import Index
from houndsight.verbs import endpoints as serving
from houndsight.verbs import train as training
from houndsight.verbs.digits import write_digits
from houndsight.verbs.job import Job
from houndsight.workspace import Workspace

SETTINGS: dict[str, Any] = {
    "recipe": "plain",
    "backbone": "resnet18",
    "weights": "none",
    "freeze": "none",
    "image_size": 32,
    "epochs": 6,
    "lr": 1e-3,
    "batch_size": 32,
    "seed": 0,
}
"""A network from scratch, so that nothing is downloaded; 98.9 % of 180 test images after 5 epochs of 5 s on 2 cores."""


INSTANCES = 2


def demo(*, workspace: Place = None, json: Json = False) -> int:
    """The whole way on 1,797 handwritten digits: data, training, evaluation, report, endpoint. No network is used."""
    tell = note if json else say
    began = time.monotonic()
    place = Workspace.find(workspace)
    data = place.path / "digits"
    tell(f"1. Data: {write_digits(data):,} real images, one folder a class, in {data}")
    name = _free_name(place)
    tell(f"2. Training: a small network from random weights; the same as\n     {_typed(data, name)}")
    sys.stdout.flush()
    job = training.train(data, name=name, workspace=workspace, wait=False, **SETTINGS)
    interrupted = follow(job)
    training.raise_failure(job, fresh=True)
    if job.state != "COMPLETED":
        if not interrupted:
            note(f"{name} was stopped. Go on with: houndsight train --resume {name}")
        return 1
    top1 = job.metrics["test"]["top1"]
    tell(
        f"3. Evaluation: {percent(top1.value)} of {top1.n} test images that training never saw "
        f"(95 % interval {percent(top1.low)} to {percent(top1.high)})"
    )
    tell(f"4. Report: {job.report}\n   Model:  {job.model}")
    images = _some_test_images(job)
    tell(f"5. Endpoint: houndsight deploy {name} --instances {INSTANCES}")
    sys.stdout.flush()
    endpoint, predictions = _ask_over_http(name, images, workspace, tell)
    for each in predictions:
        best = each["predictions"][0]
        tell(f"     {Path(each['image']).relative_to(data)}  ->  {best['class']}  ({percent(best['probability'])})")
    tell("   It is deleted again; yours stays until `houndsight delete-endpoint NAME`.")
    tell(f"Done in {duration(time.monotonic() - began)}. Open the report in a browser; then try your own images:")
    tell("     houndsight train FOLDER        (one sub-folder a class)")
    if json:
        document({**job.document(), "data": str(data), "endpoint": endpoint, "predictions": predictions})
    return 0


def _ask_over_http(
    model: str, images: list[Path], workspace: Place, tell: Callable[[str], None]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Deploy, ask, and delete again: what the endpoint was, and what it answered."""
    began = time.monotonic()
    endpoint = serving.deploy(model, instances=INSTANCES, workspace=workspace, tell=lambda _: None)
    try:
        found = endpoint.document()
        tell(f"   {INSTANCES} processes answer at {endpoint.url} after {duration(time.monotonic() - began)}:")
        return found, serving.invoke(endpoint.name, images, top=1, workspace=workspace)
    finally:
        endpoint.delete()


def _free_name(place: Workspace) -> str:
    taken = set(place.names())
    number = 1
    while (name := "digits" if number == 1 else f"digits-{number}") in taken:
        number += 1
    return name


def _typed(data: Path, name: str) -> str:
    flags = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in SETTINGS.items())
    return f"houndsight train {data} --name {name} {flags}"


def _some_test_images(job: Job) -> list[Path]:
    """One test image of each of three classes."""
    index = Index.read(job.files.index)
    split = index.splits["test"]
    first = {label: path for path, label in zip(split.paths, split.labels, strict=True)}
    return [Path(index.root) / first[label] for label in sorted(first)[:3]]
