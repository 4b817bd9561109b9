"""Training scripts in the styles of the public projects, with what answers for them, each for real to the end."""

import functools
import http.server
import io
import json
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from houndsight.backends import pool
from houndsight.backends.local import LocalBackend
from houndsight.contract.environment import at_start
from houndsight.errors import JobError
from houndsight.scripts.smdebug_sources import create_trial
from houndsight.verbs import handlers
from houndsight.verbs.handlers import Script
from houndsight.verbs.job import Job
from houndsight.verbs.models import find_model
from houndsight.verbs.run import run
from houndsight.workspace import Workspace

PROJECTS = Path(__file__).parent / "scripts" / "projects"
JPEG, JSON, NPY = "image/jpeg", "application/json", "application/x-npy"
VERDICTS = {"NoIssuesFound", "IssuesFound", "NotApplicable"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Project:
    """A training script, what it is given, and what has to come of it."""

    script: str
    tensors: tuple[str, ...]
    """Some of the tensors that Amazon's container would save, by its names."""
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    channels: dict[str, str] = field(default_factory=lambda: {"training": ""})
    metrics: dict[str, str] = field(default_factory=dict)
    folder: bool = False
    """Its whole folder is the code."""
    saved: str = "model.pth"
    found: frozenset[str] = frozenset()
    """Rules that find something at warning or error in the source."""
    answers: str = ""
    """Script that answers; empty for the training script itself."""
    asked: tuple[tuple[str, str], ...] = ((JPEG, "0.jpg"),)
    """Content type and body of requests."""
    trust_pickle: bool = False
    tensors_in: str = ""
    """Folder within the job where a hook of its own saves them."""


LOSS = "CrossEntropyLoss_output_0"
PROJECTS_TO_RUN = {
    "skeleton": Project(
        "skeleton_train.py",
        (LOSS, "gradient/ResNet_fc.0.weight", "gradient/ResNet_fc.2.bias", "layer1.0.relu_input_0", "relu_input_0"),
        {"batch-size": 20, "lr": 0.01, "epochs": 2},
        metrics={"average test loss": r"Test set: Average loss: ([0-9\.]+)"},
        answers="skeleton_inference.py",
        asked=((JPEG, "0.jpg"), (JSON, "address.json")),
    ),
    "phases": Project(
        "phases_train.py",
        (LOSS, "gradient/ResNet_fc.weight"),
        {"batch_size": 20, "learning_rate": 0.01, "epochs": 2, "unknown": "x"},
        metrics={"average test loss": r"Testing Loss: ([0-9\.]+)"},
        found=frozenset({"no_grad", "integer_metrics", "input_preprocessing"}),
        answers="phases_inference.py",
        asked=((JPEG, "0.jpg"), ("image/png", "0.png")),
    ),
    "channels": Project(
        "channels_train.py",
        (LOSS, "gradient/Net_conv1.weight", "gradient/Net_fc.bias", "relu1_input_0"),
        {"b": 10, "e": 3, "verbose": True},
        {"train": "train", "valid": "valid", "test": "test"},
        {"loss": r"Validation set: Average loss: ([0-9.]+)", "train": r"Loss: ([0-9.]+)$"},
        answers="channels_inference.py",
        asked=((NPY, "0.npy"), (JSON, "0.json")),
    ),
    "search": Project(
        "search_hpo.py",
        (LOSS, "gradient/ResNet_fc.0.weight"),
        {"lr": 0.01, "batch-size": 10, "layers": [64]},
        metrics={"average test loss": r"Test Loss: ([+-]?[0-9\.]+)"},
        found=frozenset({"head_outputs", "partial_data", "whole_module", "argument_type", "metric_scale"}),
        answers="search_inference.py",
        trust_pickle=True,
    ),
    "traced": Project(
        "traced_train.py",
        (LOSS, "gradient/Sequential_0.weight", "gradient/Sequential_8.bias"),
        {"batch-size": 20, "epochs": 2},
        metrics={"loss": r"val_loss=([0-9\.]+);"},
        saved="model.pt",
        answers="traced_inference.py",
    ),
    "guarded": Project(
        "guarded_train.py",
        ("NLLLoss_output_0", "gradient/Classifier_fc.weight"),
        {"epochs": 1},
        metrics={"accuracy": r"Accuracy: ([0-9.]+)"},
        folder=True,
        answers="guarded_inference.py",
    ),
    "alone": Project(
        "alone_train.py",
        (LOSS, "gradient/MobileNetV2_classifier.1.weight"),
        {"learning-rate": 0.01, "batch-size": 20},
        {"train": "train"},
        {"loss": "Loss: ([0-9.]+)"},
    ),
    "collections": Project(
        "collections_train.py",
        (LOSS, "ResNet_fc.1.weight", "scalar/seen"),
        {"lr": 0.01},
        {"train": "train"},
        {"loss": "Loss: ([0-9.]+)"},
        found=frozenset({"input_preprocessing"}),
        tensors_in="output/data/tensors",
    ),
    "copies": Project(
        "copies_train.py",
        (LOSS, "gradient/DataParallel_module.fc.weight"),
        {"epochs": 2},
        metrics={"loss": "valid loss ([0-9.]+)"},
        saved="checkpoint.pth",
    ),
    "two heads": Project(
        "inception_train.py",
        (LOSS, "gradient/TwoHeads_head.0.weight", "gradient/TwoHeads_aux.bias"),
        {"epochs": 2},
        metrics={"accuracy": "val_accuracy: ([0-9.]+)"},
    ),
    "package": Project(
        "package/main.py",
        (LOSS, "gradient/Small_output.weight"),
        {"layers": [32, 16], "epochs": 3, "model-name": "small", "optimizer": "Adam"},
        metrics={"loss": "valid Loss: ([0-9.]+)"},
        folder=True,
        found=frozenset({"head_outputs"}),
    ),
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as JPEG files of 40 x 40 in folders a class: 6 to train on, 2 to validate, 2 to test."""
    folder = tmp_path_factory.mktemp("pictures")
    found = load_digits()
    for label in range(10):
        images = np.rint(found.images[found.target == label] * 255 / 16).astype(np.uint8)
        for split, low, high in (("train", 0, 6), ("valid", 6, 8), ("test", 8, 10)):
            place = folder / split / str(label)
            place.mkdir(parents=True)
            for number in range(low, high):
                large = Image.fromarray(images[number]).convert("RGB").resize((40, 40))
                large.save(place / f"{number}.jpg", quality=90)
    return folder


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Iterator[Path]:
    """What is sent, one file a body, and a server of this machine that the address in one of them names."""
    folder = tmp_path_factory.mktemp("bodies")
    picture = Image.open(pictures / "test" / "3" / "8.jpg")
    for name in ("0.jpg", "0.png"):
        picture.save(folder / name)
    pixels = np.asarray(picture.resize((32, 32)), dtype=np.float32).transpose(2, 0, 1)[None] / 255
    out = io.BytesIO()
    np.save(out, pixels)
    (folder / "0.npy").write_bytes(out.getvalue())
    (folder / "0.json").write_text(json.dumps(pixels.tolist()))
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (folder / "address.json").write_text(json.dumps({"url": f"http://127.0.0.1:{server.server_port}/0.jpg"}))
        yield folder
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        del args


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace with a warm process, and random weights under the names of those that torchvision publishes."""
    if sys.platform != "linux":
        pytest.skip("every script would import torchvision anew")
    folder = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOUNDSIGHT_HOME", str(folder / "runs"))
        patch.setenv("TORCH_HOME", str(folder / "torch"))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setenv(pool.COLD, "0")
        workspace = Workspace.find()
        assert LocalBackend(of_script=at_start).warm_up(workspace.path, {"kind": "script"})
        run(_weights(folder), hyperparameters={"into": str(folder / "torch" / "hub" / "checkpoints")})
        yield workspace
        for each in psutil.process_iter(["cmdline"]):
            if any(str(workspace.path) in word for word in each.info["cmdline"] or []):
                with suppress(psutil.NoSuchProcess):
                    each.kill()
                    each.wait(10.0)


def _weights(folder: Path) -> Path:
    script = folder / "weights.py"
    script.write_text(
        "import json, os, torch, torchvision\n"
        "into = json.loads(os.environ['SM_HPS'])['into']\n"
        "os.makedirs(into)\n"
        "torch.manual_seed(0)\n"
        "torch.save(torchvision.models.resnet18().state_dict(), into + '/resnet18-f37072fd.pth')\n"
    )
    return script


def named(archive: Path | None) -> list[str]:
    assert archive is not None
    with tarfile.open(archive) as tar:
        return tar.getnames()


@pytest.fixture(scope="module")
def jobs(place: Workspace, pictures: Path) -> dict[str, Job]:
    """Every project, run to its end."""
    ended = {}
    for name, project in PROJECTS_TO_RUN.items():
        script = PROJECTS / project.script
        ended[name] = run(
            script,
            source_dir=script.parent if project.folder else None,
            channels={channel: pictures / split for channel, split in project.channels.items()},
            hyperparameters=project.hyperparameters,
            metrics=project.metrics,
            name=name.replace(" ", "-"),
            wait=False,
        ).wait()
    return ended


@pytest.mark.parametrize("name", PROJECTS_TO_RUN)
def test_a_project(jobs: dict[str, Job], name: str) -> None:
    job, project = jobs[name], PROJECTS_TO_RUN[name]
    assert job.state == "COMPLETED", job.logs()
    assert project.saved in named(job.model)
    for metric in project.metrics:
        assert job.records.scalars(metric, "script"), f"{metric} was not found in {job.logs()}"
    saved = create_trial(str(job.files.path / project.tensors_in)).tensor_names()
    assert set(project.tensors) <= set(saved), saved
    verdicts = {each.rule: each.status for each in job.findings if each.source == "debugger"}
    for rule in ("vanishing_gradient", "overfit", "overtraining", "poor_weight_initialization", "loss_not_decreasing"):
        assert verdicts[rule] in VERDICTS, verdicts
    assert "Error" not in verdicts.values()
    said = {each.rule for each in job.findings if each.status == "IssuesFound" and "line" in each.evidence}
    assert project.found <= said
    assert job.report is not None
    assert job.files.report.stat().st_size > 10_000


ANSWERING = [name for name, each in PROJECTS_TO_RUN.items() if each.answers or name == "alone"]


@pytest.fixture(scope="module")
def answers(jobs: dict[str, Job], bodies: Path) -> dict[str, Any]:
    """What the script of every model answers, prepared as for an endpoint; a traceback where it fails."""
    with ExitStack() as stack:
        models: dict[str, Path] = {"bodies": bodies}
        for name in ANSWERING:
            project, job = PROJECTS_TO_RUN[name], jobs[name]
            entry = (
                str(PROJECTS / project.answers) if project.answers and not project.folder else project.answers or None
            )
            script = Script(entry_point=entry, trust_pickle=project.trust_pickle)
            staged = stack.enter_context(handlers.staged(job.name, find_model(job.name), script, None))
            assert staged is not None
            models[name] = staged / "model"
        programs = {name: PROJECTS_TO_RUN[name].answers or PROJECTS_TO_RUN[name].script for name in ANSWERING}
        requests = {name: PROJECTS_TO_RUN[name].asked for name in ANSWERING}
        given = {"programs": programs, "requests": requests}
        ask = run(PROJECTS / "ask.py", channels=models, hyperparameters=given, trust_pickle=True)
    found: dict[str, Any] = json.loads((ask.files.output / "data" / "answers.json").read_text())
    return found


@pytest.mark.parametrize("name", ANSWERING)
def test_its_answers(answers: dict[str, Any], name: str) -> None:
    found = answers[name]
    assert isinstance(found, list), found
    assert [each["status"] for each in found] == [200] * len(PROJECTS_TO_RUN[name].asked)
    for each in found:
        assert np.asarray(each["answer"]).shape == (1, 10)
    first = np.asarray(found[0]["answer"])
    assert all(np.abs(np.asarray(each["answer"]) - first).max() < 0.5 for each in found[1:])


def test_a_gpu_that_is_asked_for_and_not_there(place: Workspace) -> None:
    with pytest.raises(JobError) as caught:
        run(PROJECTS / "always_cuda_train.py", name="cuda")
    job = Job(place.job("cuda"))
    (wrong,) = [each for each in job.findings if each.rule == "cuda_absent"]
    assert wrong.severity == "error"
    assert job.logs().index("this asks for a GPU") < job.logs().index("Traceback")
    assert "always_cuda_train.py" in caught.value.message or "CUDA" in caught.value.message


def test_a_mistake_behind_the_training_is_told_before_it(place: Workspace) -> None:
    with pytest.raises(JobError, match="NameError"):
        run(PROJECTS / "late_mistake_train.py", name="late")
    log = Job(place.job("late")).logs()
    assert log.index("nothing is called 'args'") < log.index("Invoking script")
