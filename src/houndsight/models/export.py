"""The trained classifier for other runtimes: ONNX or OpenVINO, checked against what it was on its own images.

    images          uint8 (n, S, S, 3), RGB, resized and cropped as `preprocess` says; n is free
    logits          float32 (n, C)
    probabilities   float32 (n, C): softmax of the logits by the calibrated temperature

Normalisation is part of the graph, so that nobody can forget or double it.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from houndsight.errors import DependencyError, ModelError
from houndsight.models import private
from houndsight.models.artifact import Artifact
from houndsight.models.private import core, openvino
from houndsight.results import Exported, ModelCard
from houndsight.workspace import friendly_disk_errors, write_json

log = logging.getLogger("houndsight")

Format = Literal["onnx", "openvino"]
Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""uint8 images (n, S, S, 3) -> probabilities (n, C)."""

FILES: dict[Format, str] = {"onnx": "model.onnx", "openvino": "model.xml"}
OPSET = 18
"""onnxruntime 1.14 of 2023 and OpenVINO 2023.1 read it."""
MIN_AGREEMENT = 0.98
"""Least share of the images with the same class; two classes that are equally probable may change places."""
MAX_DIFFERENCE = 0.01
"""Largest difference of a probability from the model's own; both are float32, so 1e-5 is usual."""
_BATCH = 16


class Whole(nn.Module):
    """A network from pixels as they are stored to probabilities."""

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 (n, S, S, 3) -> logits (n, C), probabilities (n, C)."""
        logits: torch.Tensor = self.network(images.permute(0, 3, 1, 2))
        return logits, torch.softmax(logits / self.temperature, dim=1)


def export(artifact: Artifact, to: Format, folder: Path) -> Exported:
    """Write `artifact` into `folder` as `model.onnx`, or as `model.xml` and `model.bin`; beside it its card and check.

    Raises `DependencyError` where the packages are missing, and `ModelError` where the network cannot be written, or
    answers otherwise on the images that the artifact carries: nothing is left then.
    """
    file = folder / FILES[to]
    with friendly_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            (_write_onnx if to == "onnx" else _write_openvino)(artifact, file)
            found = _checked(artifact, to, file)
        except BaseException:
            for each in (file, file.with_suffix(".bin")):
                each.unlink(missing_ok=True)
            raise
        write_json(folder / "model.json", artifact.card)
        write_json(folder / "export.json", found)
    return found


def describe(card: ModelCard) -> dict[str, str]:
    """What the file says of itself: classes in the order of the outputs (JSON), preprocessing (JSON), origin."""
    return {
        "classes": json.dumps(card.classes, ensure_ascii=False),
        "preprocess": card.preprocess.model_dump_json(),
        "temperature": repr(card.temperature),
        "backbone": card.backbone,
        "weights_licence": card.weights_licence,
        "created": card.created,
    }


# --------------------------------------------------------------------------------------------- write


def _example(card: ModelCard) -> torch.Tensor:
    side = card.preprocess.image_size
    return torch.zeros((2, side, side, 3), dtype=torch.uint8)


def _write_onnx(artifact: Artifact, file: Path) -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise DependencyError(f"ONNX needs the package {error.name}.", "pip install 'houndsight[onnx]'") from None
    whole = Whole(artifact.network, artifact.card.temperature).eval()
    with _quiet("torch.onnx", "onnxscript", "onnx_ir"):
        try:
            program = torch.onnx.export(
                whole,
                (_example(artifact.card),),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
                input_names=["images"],
                output_names=["logits", "probabilities"],
                opset_version=OPSET,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ModelError(
                f"'{artifact.card.backbone}' cannot be written as ONNX: {_first_line(error)}", "Use --to openvino."
            ) from error
    assert program is not None
    program.model.metadata_props.update(describe(artifact.card))
    program.model.producer_name = "houndsight"
    program.save(str(file), external_data=False)


def _write_openvino(artifact: Artifact, file: Path) -> None:
    ov = openvino()

    whole, side = Whole(artifact.network, artifact.card.temperature).eval(), artifact.card.preprocess.image_size
    with _quiet("openvino"), torch.no_grad():
        example = _example(artifact.card)[:1]
        traced = torch.jit.trace(whole, example, check_trace=False)  # type: ignore[no-untyped-call]
        model = ov.convert_model(traced, example_input=example, input=[-1, side, side, 3])
    model.inputs[0].get_tensor().set_names({"images"})
    for output, name in zip(model.outputs, ("logits", "probabilities"), strict=True):
        output.get_tensor().set_names({name})
    for name, text in describe(artifact.card).items():
        model.set_rt_info(text, ["houndsight", name])
    ov.save_model(model, file, compress_to_fp16=False)


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Exporters talk to their developers: deprecations, and every pass that they make."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:300]


# --------------------------------------------------------------------------------------------- check


def _checked(artifact: Artifact, to: Format, file: Path) -> Exported:
    """Compare with what eager float32 gave when the artifact was written, in batches of several sizes."""
    checked_by, run = _reader(to, file)
    images = artifact.images
    expected = torch.softmax(torch.from_numpy(artifact.logits).double() / artifact.card.temperature, dim=1).numpy()
    # The first image alone: a batch of another size must do as well.
    cuts = [0, 1, *range(1 + _BATCH, len(images), _BATCH), len(images)] if len(images) > 1 else [0, len(images)]
    parts = [run(images[low:high]) for low, high in pairwise(cuts) if high > low]
    found = np.concatenate(parts) if parts else expected.astype(np.float32)
    agreement = float((found.argmax(1) == expected.argmax(1)).mean()) if len(images) else 1.0
    difference = float(np.abs(found - expected).max()) if len(images) else 0.0
    if agreement < MIN_AGREEMENT or not difference <= MAX_DIFFERENCE:
        raise ModelError(
            f"{file.name} names another class than the model on {100 * (1 - agreement):.0f} % of its {len(images)} "
            f"images, and a probability is off by {difference:.3g}: it is not kept.",
            "Use the other format.",
        )
    size = sum(each.stat().st_size for each in (file, file.with_suffix(".bin")) if each.is_file())
    return Exported(
        format=to,
        file=file.name,
        bytes=size,
        images=len(images),
        agreement=agreement,
        difference=difference,
        checked_by=checked_by,
    )


def _reader(to: Format, file: Path) -> tuple[str, Run]:
    """Who reads the file back, and how to ask: onnxruntime where it is installed, else OpenVINO, which reads both."""
    if to == "onnx":
        try:
            return _onnxruntime(file)
        except ImportError:
            log.info("onnxruntime is not installed; OpenVINO checks the file.")
    ov = openvino()
    compiled = core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return f"openvino {ov.__version__.partition('-')[0]}", lambda images: np.array(compiled([images])["probabilities"])


def _onnxruntime(file: Path) -> tuple[str, Run]:
    onnxruntime = private.onnxruntime()
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: list[Any] = session.run(["probabilities"], {"images": images})
        return np.asarray(found[0], dtype=np.float32)

    return f"onnxruntime {onnxruntime.__version__}", run
