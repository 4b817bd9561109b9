"""From an artifact to a prepared model, once for all instances: converted, tried beside eager float32, measured.

    python -m houndsight.serving.prepare MODEL --cache DIR [--runtime auto] [--min-agreement 0.95]

One line of JSON on standard output: `{"folder", "prepared"}`, or `{"error"}` and exit code 2. The torch that this needs
ends with the process.
"""

import argparse
import contextlib
import hashlib
import json
import logging
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from houndsight.errors import DependencyError, HoundsightError, ModelError, did_you_mean
from houndsight.models.private import reason
from houndsight.serving.compiled import Compiled
from houndsight.serving.predictor import CHECKED, Forward, Predictor
from houndsight.serving.prepared import (
    FORMAT,
    MAX_DIFFERENCE,
    MIN_AGREEMENT,
    SETTINGS,
    Candidate,
    Prepared,
    compare,
    cores,
)
from houndsight.workspace import friendly_disk_errors, remove_tree, write_json

if TYPE_CHECKING:
    import openvino

    from houndsight.models.artifact import Artifact

log = logging.getLogger("houndsight")

RUNTIMES = ("auto", *SETTINGS, "cuda", "eager")
BATCHES = (1, 2, 4, 8)
MEASURED = 8
ROUNDS = 3
WORTH = 0.93
"""A batch of 8 has to cost at most this times a batch of 1 to be compiled at all: each size holds the weights anew.
With AMX it costs 0.72, with AVX512-BF16 alone 1.0."""
_PACKAGES = ("houndsight", "openvino", "torch")


def prepare(model: Path, cache: Path, runtime: str = "auto", min_agreement: float = MIN_AGREEMENT) -> Path:
    """The prepared folder of `model` (a job's folder, an artifact folder or a model.tar.gz), below `cache`.

    Raises `ModelError` where the model is broken, or where the asked runtime agrees on less than `min_agreement` of
    its validation images, or is off by more than 0.1 in a probability. `auto` takes the cheapest that passes.
    """
    if runtime not in RUNTIMES:
        raise ModelError(f"There is no runtime '{runtime}'. {did_you_mean(runtime, RUNTIMES)}".strip(), _choices())
    folder = cache / "serving" / _key(model, runtime, min_agreement)
    if (folder / "prepared.json").is_file():
        return folder
    from houndsight.models.artifact import load

    artifact = load(model)
    staged = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    with friendly_disk_errors(cache), _gone_on_error(staged):
        staged.mkdir(parents=True)
        write_json(staged / "model.json", artifact.card)
        np.savez(staged / "samples.npz", images=artifact.images, logits=artifact.logits)
        with _one_thread():
            candidates = list(_candidates(artifact, model, staged, runtime, min_agreement))
        chosen = _choose(candidates, runtime)
        cost = chosen.cpu_ms
        sizes = BATCHES if chosen.runtime == "cuda" or cost.get(MEASURED, 1.0) < WORTH * cost.get(1, 1.0) else (1,)
        if chosen.runtime in ("cuda", "eager"):
            from houndsight.models.artifact import save

            save(staged / "artifact", artifact.network, artifact.card, artifact.images)
        versions = {name: version(name) for name in _PACKAGES}
        write_json(
            staged / "prepared.json",
            Prepared(
                runtime=chosen.runtime,
                sizes=sizes,
                candidates=tuple(candidates),
                source=str(model),
                versions=versions,
            ),
        )
        _into_place(staged, folder)
    _tell_artifact(model, folder)
    return folder


def _key(model: Path, runtime: str, min_agreement: float) -> str:
    """What a prepared folder depends on: the model's bytes, what was asked for, who computes, on which processor."""
    digest = hashlib.sha256()
    place = model if not model.is_dir() or (model / "model.json").is_file() else model / "model"
    files = [place] if place.is_file() else [place / "model.json", place / "model.safetensors"]
    for file in files:
        if file.is_file():
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    known = [FORMAT, runtime, min_agreement, [version(name) for name in _PACKAGES], _processor()]
    digest.update(json.dumps(known).encode())
    return digest.hexdigest()[:24]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return sys.platform
    return next((line for line in lines if line.startswith(("flags", "Features"))), sys.platform)


@contextmanager
def _gone_on_error(staged: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        remove_tree(staged)
        raise


@contextmanager
def _one_thread() -> Iterator[None]:
    """What is measured is CPU time: torch's own threads would only wait for one another in it."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _into_place(staged: Path, folder: Path) -> None:
    try:
        staged.rename(folder)
    except OSError:
        if not (folder / "prepared.json").is_file():
            raise
        remove_tree(staged)  # somebody else was faster, with the same


def _candidates(
    artifact: "Artifact", model: Path, folder: Path, runtime: str, min_agreement: float
) -> Iterator[Candidate]:
    """Every runtime that is asked for, tried and measured, most promising first; eager where no other agrees."""
    import torch

    from houndsight.models.runtime import cpu_has_bfloat16

    wanted = [runtime] if runtime != "auto" else ["openvino-bf16"] * cpu_has_bfloat16() + ["openvino-f32"]
    if runtime == "auto" and torch.cuda.is_available():
        wanted = ["cuda"]
    if any(name in SETTINGS for name in wanted):
        _write_network(artifact, folder, "openvino-int8" in wanted)
    agrees = False
    for name in wanted:
        if name == "eager":
            continue
        # The second best is there to be timed; only where the best fails is it tried on all images.
        most, sizes = (CHECKED, (1,)) if agrees else (None, (1, MEASURED))
        try:
            forward = _forward(artifact, folder, name, sizes)
            candidate = _judged(Predictor(artifact.card, forward, name), artifact, min_agreement, most, sizes)
        except RuntimeError as error:  # a network that OpenVINO or CUDA cannot compile or run on this machine
            candidate = _broken(name, error)
        agrees = agrees or not candidate.refused
        yield candidate
    if "eager" in wanted or (runtime == "auto" and not agrees):
        Predictor.of(artifact, str(model))  # says so where the weights are damaged: then nothing else agreed either
        yield Candidate(runtime="eager", images=len(artifact.images), agreement=1.0, difference=0.0)


def _forward(artifact: "Artifact", folder: Path, runtime: str, sizes: tuple[int, ...]) -> Forward:
    """The network in that runtime; raises `RuntimeError` where it cannot be compiled here."""
    if runtime == "cuda":
        from houndsight.models.runtime import EagerRuntime

        return EagerRuntime(artifact.network, "cuda", "bfloat16")
    file, precision = SETTINGS[runtime]
    return Compiled(folder / file, precision, sizes=sizes, threads=cores(), blobs=folder / "blobs")


def _broken(runtime: str, error: RuntimeError) -> Candidate:
    refused = f"it does not run on this machine: {reason(error)}"
    log.info("%s is not used: %s.", runtime, refused)
    return Candidate(runtime=runtime, images=0, agreement=0.0, difference=1.0, refused=refused)


def _write_network(artifact: "Artifact", folder: Path, quantised: bool) -> None:
    from houndsight.models.private import openvino
    from houndsight.models.runtime import convert

    ov = openvino()
    network = convert(artifact.network, artifact.card.preprocess.image_size)
    ov.save_model(network, folder / "float.xml", compress_to_fp16=False)
    if quantised:
        ov.save_model(_quantised(network, artifact), folder / "int8.xml", compress_to_fp16=False)


def _quantised(network: "openvino.Model", artifact: "Artifact") -> "openvino.Model":
    """Post-training quantisation on half of the stored images and their mirror images; the other half judges it."""
    try:
        import nncf
    except ImportError:
        raise DependencyError("int8 needs the package nncf.", "pip install 'houndsight[int8]'") from None
    half = artifact.images[::2]
    if not len(half):
        raise ModelError("The model carries no images to quantise it by.", "Use --runtime auto.")
    nncf.set_log_level(logging.ERROR)
    shown = [image[None] for image in np.concatenate([half, half[:, :, ::-1]])]
    with contextlib.redirect_stdout(sys.stderr):  # it draws progress bars
        return nncf.quantize(network, nncf.Dataset(shown), subset_size=len(shown))


def _judged(
    predictor: Predictor, artifact: "Artifact", min_agreement: float, most: int | None, sizes: tuple[int, ...]
) -> Candidate:
    """Compare with what eager float32 gave when the artifact was written, on `most` images, and measure."""
    odd = predictor.runtime == "openvino-int8" and len(artifact.images) > 1
    chosen = slice(1, None, 2) if odd else slice(0, most)
    samples, expected = artifact.images[chosen], artifact.logits[chosen]
    agreement, difference = compare(predictor, samples, expected)
    refused = ""
    if agreement < min_agreement or difference > MAX_DIFFERENCE:
        refused = (
            f"it names another class than eager float32 on {100 * (1 - agreement):.0f} % of {len(samples)} validation "
            f"images, and a probability is off by {difference:.3f}"
        )
        log.info("%s is not used: %s.", predictor.runtime, refused)
    return Candidate(
        runtime=predictor.runtime,
        images=len(samples),
        agreement=agreement,
        difference=difference,
        cpu_ms=_measured(predictor, sizes),
        refused=refused,
    )


def _measured(predictor: Predictor, sizes: tuple[int, ...]) -> dict[int, float]:
    """Milliseconds an image by batch size: of the CPU, or of the clock where a GPU computes."""
    side = predictor.preprocess.image_size
    clock = time.perf_counter if predictor.runtime == "cuda" else time.process_time
    cost = {}
    for size in sizes:
        batch = np.random.default_rng(0).integers(0, 256, (size, side, side, 3), dtype=np.uint8)
        rounds = []
        for _ in range(ROUNDS):
            start = clock()
            predictor.logits(batch)
            rounds.append((clock() - start) * 1e3 / size)
        cost[size] = round(min(rounds), 3)
    return cost


def _choose(candidates: list[Candidate], runtime: str) -> Candidate:
    """The cheapest that passes; raises `ModelError` where the one that was asked for does not."""
    sound = [each for each in candidates if not each.refused]
    if not sound:
        reasons = "; ".join(f"{each.runtime}: {each.refused}" for each in candidates)
        raise ModelError(f"The runtime '{runtime}' is refused: {reasons}.", "Use --runtime auto.")
    return min(sound, key=lambda each: min(each.cpu_ms.values(), default=float("inf")))


def _tell_artifact(model: Path, folder: Path) -> None:
    """Leave what was found beside the artifact, where that is a folder that can be written to."""
    place = model if (model / "model.json").is_file() else model / "model"
    if not (place / "model.json").is_file():
        return
    try:
        write_json(place / "runtime.json", Prepared.read(folder / "prepared.json"))
    except HoundsightError as error:
        log.info("The result is not kept beside the model: %s", error.message)


def _choices() -> str:
    return f"Choose from {', '.join(RUNTIMES)}."


def main() -> None:
    """Prepare the model that the arguments name."""
    parser = argparse.ArgumentParser(description="Prepare a model for serving.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--min-agreement", type=float, default=MIN_AGREEMENT)
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        folder = prepare(asked.model, asked.cache, asked.runtime, asked.min_agreement)
        prepared = Prepared.read(folder / "prepared.json").model_dump(mode="json")
        answer, code = {"folder": str(folder), "prepared": prepared}, 0
    except HoundsightError as error:
        answer, code = {"error": error.document()}, error.exit_code
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
