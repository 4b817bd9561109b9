"""What the benchmark serves: a ResNet-18 of 133 classes with made weights, JPEGs of 500 x 375, prepared models."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks.decode import made
from houndsight.data import images
from houndsight.models import artifact
from houndsight.models.network import build
from houndsight.results import ModelCard
from houndsight.spec import ClassifierSpec

CLASSES, IMAGES = 133, 50


def make(work: Path) -> None:
    """Fill `work` once: `data/`, `model/` (the artifact), and `peers/model.pt` with the same weights."""
    if (work / "model" / "model.json").is_file():
        return
    (work / "data").mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(made(IMAGES)):
        (work / "data" / f"{number:03d}.jpg").write_bytes(data)
    network = build(ClassifierSpec(data="x", weights="none", image_size=224), CLASSES).network.eval()
    names = tuple(f"class {number}" for number in range(CLASSES))
    # The weights mean nothing, so every probability is close to the next; a high temperature keeps the gate quiet.
    card = ModelCard(classes=names, preprocess=network.preprocess, backbone="resnet18", temperature=10.0)
    files = sorted((work / "data").iterdir())
    samples = np.stack([images.fit_to(images.decode(file.read_bytes()), network.preprocess) for file in files])
    artifact.save(work / "model", network, card, samples)
    state = {name.removeprefix("backbone."): value for name, value in network.backbone.state_dict().items()}
    state |= {f"fc.{name.rpartition('.')[2]}": value for name, value in network.head.state_dict().items()}
    (work / "peers").mkdir(exist_ok=True)
    torch.save(state, work / "peers" / "model.pt")


def prepared(work: Path, runtime: str) -> Path | None:
    """The prepared folder for a runtime; None where it cannot be had here (int8 without nncf)."""
    command = [sys.executable, "-m", "houndsight.serving.prepare", str(work / "model"), "--cache", str(work / "cache")]
    done = subprocess.run(
        [*command, "--runtime", runtime, "--min-agreement", "0"], stdout=subprocess.PIPE, text=True, check=False
    )
    answer = json.loads(done.stdout.strip().rpartition("\n")[2])
    if "error" in answer:
        print(f"{runtime}: {answer['error']['message']}", file=sys.stderr)
        return None
    return Path(answer["folder"])


def for_peers(work: Path, harness: Path, folders: dict[str, Path]) -> Path:
    """The folder in which the servers of `harness` find the same weights, images and compiled networks as ours."""
    peers = work / "peers"
    shutil.copytree(harness / "servers", peers / "servers", dirs_exist_ok=True)
    shutil.copyfile(harness / "common.py", peers / "common.py")
    (peers / "art").mkdir(exist_ok=True)
    for runtime, (source, target) in {
        "openvino-bf16": ("float", "ov_fp"),
        "openvino-int8": ("int8", "ov_int8"),
    }.items():
        if runtime in folders:
            for ending in (".xml", ".bin"):
                shutil.copyfile(folders[runtime] / f"{source}{ending}", peers / "art" / f"{target}{ending}")
    forms = peers / "data_form"
    if not forms.is_dir():
        forms.mkdir()
        head = b'--XBOUNDX\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n'
        for file in (work / "data").iterdir():
            body = head + b"Content-Type: image/jpeg\r\n\r\n" + file.read_bytes() + b"\r\n--XBOUNDX--\r\n"
            (forms / file.name).write_bytes(body)
    if not (peers / "data").exists():
        (peers / "data").symlink_to(work / "data")
    return peers
