"""What runs inside a job: the way of the data as calls, station after station; the first file to open.

python -m houndsight.worker <job folder>
"""

import json
import logging
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from houndsight.backends.base import Stop, Stopped, execute
from houndsight.backends.leave import leave
from houndsight.folders import JobFolder
from houndsight.records.progress import ProgressFile
from houndsight.records.writer import RecordWriter
from houndsight.reports import bundle
from houndsight.results import Evaluation, ModelCard
from houndsight.spec import ClassifierSpec, Index, ScriptSpec
from houndsight.watch.profiler import JobProfiler, profiled
from houndsight.workspace import write_json

if TYPE_CHECKING:
    from houndsight.data.cache import DecodedImages
    from houndsight.data.loader import Batches
    from houndsight.models.network import Built, Network

log = logging.getLogger("houndsight")

PACKAGES = ("houndsight", "torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg", "openvino")
SAMPLES = 64  # validation images that the artifact carries


def run_job(job: JobFolder, stop: Stop) -> Literal["COMPLETED", "STOPPED"]:
    """Run the job that `spec.json` describes; raises what went wrong as `HoundsightError`."""
    spec = json.loads(job.spec.read_bytes())
    kind, interval = spec.get("kind"), float(spec.get("profile_interval", 0.5))
    with RecordWriter(job.records) as records, profiled(job, records, interval=interval) as profiler:
        if kind == "script":
            from houndsight.contract.script import run_script

            return run_script(job, ScriptSpec.read(job.spec), stop, records)
        return train_classifier(job, ClassifierSpec.read(job.spec), stop, records, profiler)


def train_classifier(
    job: JobFolder, spec: ClassifierSpec, stop: Stop, records: RecordWriter, profiler: JobProfiler
) -> Literal["COMPLETED", "STOPPED"]:
    """From an index of labelled images to an evaluated, packed classifier."""
    progress, cache = ProgressFile(job.progress), job.path.parent.parent / "cache"

    def watched(stage: str, done: int, total: int) -> None:
        if stop():
            raise Stopped
        progress(stage, done, total)

    try:
        index = Index.read(job.index)
        built = build_and_check(job, spec, index, records, watched, cache)
        # What follows imports torch, or needs what does: not before the check has begun.
        from houndsight.data.cache import decode_all
        from houndsight.models import network
        from houndsight.training import pictures, plan, soup
        from houndsight.training.loop import fit
        from houndsight.training.prepare import prepare
        from houndsight.training.watched import debugged

        with records.span("decode", step=0):
            index, images = decode_all(index, built.network.preprocess, cache, workers=spec.workers, progress=watched)
            write_json(job.index, index)
        spec = ClassifierSpec.read(job.plan) if job.plan.is_file() else plan.decide(spec, built.network, index)
        write_json(job.plan, spec)  # a resumed job keeps what was decided
        network.freeze_stages(built.network, spec.freeze)
        if spec.batch_norm == "fixed":
            network.fix_batch_norm(built.network)
        expected = plan.announce(spec, built.network, index, images.size, progress)

        batches = prepare(spec, built.network, index, images, cache, records, watched)
        with debugged(job, spec, index, built) as debugger:
            if spec.soup:
                soup.mix(built.network, batches, spec, stop=stop)
            elif spec.optimizer != "lbfgs":  # which `prepare` has fitted already
                fitted = fit(
                    built.network,
                    batches,
                    spec,
                    checkpoints=job.checkpoints,
                    records=records,
                    stop=stop,
                    progress=profiler.watching(expected),
                    pause=int(job.pause.read_text()) if job.pause.is_file() else None,
                    debugger=debugger,
                )
                if fitted.stopped:
                    return "STOPPED"
                profiler.look(built.network, batches, spec.batch_size)
            with records.span("evaluate", step=0):
                results, temperature = measure(job, spec, index, built.network, batches, stop)
        built.network.put_back()
        with records.span("pictures", step=0):  # the trials of a tuning are not looked at one by one
            results = pictures.make(job, index, built.network, results, images) if spec.evaluate_test else results
        keep(job, spec, built, index, results, temperature, images, cache)
    except Stopped:
        return "STOPPED"
    return "COMPLETED"


def build_and_check(
    job: JobFolder,
    spec: ClassifierSpec,
    index: Index,
    records: RecordWriter,
    watched: Callable[[str, int, int], None],
    cache: Path,
) -> "Built":
    """The network, whole and untrained, while the data are checked beside it."""
    from houndsight.data import check
    from houndsight.data.check_beside import check_beside

    warm = "torch" in sys.modules  # a fork has no import to wait for
    with ThreadPoolExecutor(1) as pool:
        look = partial(check.check, index) if warm else partial(check_beside, index, job.index)
        checking = pool.submit(look, cache=cache, workers=spec.workers, progress=watched)
        from houndsight.models import network
        from houndsight.training import soup

        with records.span("build", step=0):
            built = network.build(spec.model_copy(update={"freeze": "none"}), len(index.classes))
            soup.begin(built.network, spec)
        with records.span("check", step=0):
            write_json(job.check, check.document(index, checking.result()))
    return built


def measure(
    job: JobFolder, spec: ClassifierSpec, index: Index, net: "Network", batches: "Batches", stop: Stop
) -> tuple[dict[str, Evaluation], float]:
    """Evaluate on validation, fit the temperature there, and touch the test split once, at the end, where it may be."""
    from houndsight import metrics
    from houndsight.training.evaluate import evaluate, outputs

    logits, labels = outputs(net, batches, "valid", stop=stop)
    temperature = metrics.fit_temperature(logits, labels)
    results = {"valid": evaluate(index, "valid", logits, labels, temperature, job.evaluation)}
    if spec.evaluate_test and "test" in index.splits:
        logits, labels = outputs(net, batches, "test", stop=stop)
        results["test"] = evaluate(index, "test", logits, labels, temperature, job.evaluation)
    for split, result in results.items():
        top1 = result.metrics["top1"]
        log.info("%s: %.2f %% right (95 %% interval %.2f to %.2f, %d images).",
                 split.capitalize(), 100 * top1.value, 100 * top1.low, 100 * top1.high, top1.n)  # fmt: skip
    return results, temperature


def keep(
    job: JobFolder,
    spec: ClassifierSpec,
    built: "Built",
    index: Index,
    results: dict[str, Evaluation],
    temperature: float,
    images: "DecodedImages",
    cache: Path,
) -> None:
    """Write the artifact and pack it."""
    from houndsight.features.extract import eager_features
    from houndsight.models import artifact

    net = built.network
    samples = images.sample("valid", SAMPLES, net.preprocess.image_size)
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
        spec=spec.model_dump(mode="json"),
        versions={name: version(name) for name in PACKAGES},
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    features = eager_features(net, samples, cache) if spec.freeze == "all" else None  # the same for every trial
    artifact.save(job.model, net, card, samples, features)
    artifact.pack(job.model, job.model_archive, level=1 if spec.evaluate_test else 0)


def work() -> int:
    """Run the job whose folder is the one argument; everything said goes to standard output, which is its log."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    job = JobFolder(Path(sys.argv[1]))
    bundle.make_ahead(job)
    status = execute(job, run_job, "local")
    from houndsight.reports import summary  # not before the job has begun: the templates take 0.2 s to import

    summary.build(job)
    return int(status.exit_code or 0)


if __name__ == "__main__":
    leave(work())
