"""What runs inside a job: the way of the data as calls, station after station; the first file to open.

python -m houndsight.worker <job folder>
"""

import json
import logging
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from houndsight.backends.base import Stop, execute
from houndsight.records.progress import ProgressFile
from houndsight.records.writer import RecordWriter
from houndsight.reports import summary
from houndsight.results import ModelCard
from houndsight.spec import ClassifierSpec, Index, ScriptSpec
from houndsight.workspace import JobFolder, write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from houndsight.data.cache import DecodedImages

log = logging.getLogger("houndsight")

PACKAGES = ("houndsight", "torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg")
SAMPLES = 64  # validation images that the artifact carries


def run_job(job: JobFolder, stop: Stop) -> Literal["COMPLETED", "STOPPED"]:
    """Run the job that `spec.json` describes; raises what went wrong as `HoundsightError`."""
    kind = json.loads(job.spec.read_bytes()).get("kind")
    with RecordWriter(job.records) as records:
        if kind == "script":
            from houndsight.contract.script import run_script

            return run_script(job, ScriptSpec.read(job.spec), stop, records)
        return train_classifier(job, ClassifierSpec.read(job.spec), stop, records)


def train_classifier(
    job: JobFolder, spec: ClassifierSpec, stop: Stop, records: RecordWriter
) -> Literal["COMPLETED", "STOPPED"]:
    """From an index of labelled images to an evaluated, packed classifier."""
    from houndsight import metrics
    from houndsight.data.cache import decode_all
    from houndsight.data.loader import ImageBatches
    from houndsight.models import artifact, network
    from houndsight.training.evaluate import evaluate, outputs
    from houndsight.training.loop import fit

    progress = ProgressFile(job.progress)
    index = Index.read(job.index)
    with records.span("build", step=0):
        built = network.build(spec, len(index.classes))
    net = built.network
    with records.span("decode", step=0):
        index, images = decode_all(index, net.preprocess, _cache(job), workers=spec.workers, progress=progress)
        write_json(job.index, index)
    batches = ImageBatches(
        index,
        images,
        net.preprocess,
        batch_size=spec.batch_size,
        seed=spec.seed,
        augment=spec.augment,
        workers=spec.workers,
    )
    fitted = fit(net, batches, spec, checkpoints=job.checkpoints, records=records, stop=stop, progress=progress)
    if fitted.stopped:
        return "STOPPED"

    with records.span("evaluate", step=fitted.steps):
        logits, labels = outputs(net, batches, "valid", stop=stop)
        temperature = metrics.fit_temperature(logits, labels)
        results = {"valid": evaluate(index, "valid", logits, labels, temperature, job.evaluation)}
        if "test" in index.splits:  # touched once, here, when nothing is left to choose
            logits, labels = outputs(net, batches, "test", stop=stop)
            results["test"] = evaluate(index, "test", logits, labels, temperature, job.evaluation)
    for split, result in results.items():
        top1 = result.metrics["top1"]
        log.info("%s: %.2f %% right (95 %% interval %.2f to %.2f, %d images).", split.capitalize(), 100 * top1.value,
                 100 * top1.low, 100 * top1.high, top1.n)  # fmt: skip

    card = ModelCard(
        classes=index.classes,
        preprocess=net.preprocess,
        backbone=net.name,
        hidden=spec.hidden,
        dropout=spec.dropout,
        temperature=temperature,
        weights_source=built.source,
        weights_licence=built.licence,
        metrics={split: result.metrics for split, result in results.items()},
        data_fingerprint=index.fingerprint,
        spec=spec.model_dump(),
        versions={name: version(name) for name in PACKAGES},
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    artifact.save(job.model, net, card, _samples(images, net.preprocess.image_size))
    artifact.pack(job.model, job.model_archive)
    return "COMPLETED"


def _samples(images: "DecodedImages", side: int) -> "NDArray[np.uint8]":
    """Validation images (n, side, side, 3), evenly spread over the split and so over its classes."""
    import numpy as np

    from houndsight.data.images import centre

    rows = images.rows("valid")
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(SAMPLES, len(rows))).astype(int))
    return np.stack([centre(np.asarray(images.pixels[int(row)]), side) for row in rows[chosen]])


def _cache(job: JobFolder) -> Path:
    return job.path.parent.parent / "cache"


def main() -> None:
    """Run the job whose folder is the one argument; everything said goes to standard output, which is its log."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    job = JobFolder(Path(sys.argv[1]))
    status = execute(job, run_job, "local")
    summary.build(job)
    sys.exit(status.exit_code)


if __name__ == "__main__":
    main()
