"""The artifact: what is written is read back, equal bytes for equal contents, and nothing broken or hostile gets in."""

import gzip
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from houndsight.errors import ModelError
from houndsight.models import artifact
from houndsight.models.network import Network, build
from houndsight.results import ModelCard
from houndsight.spec import ClassifierSpec

CLASSES = ("beagle", "Saint Bernard", "été", "corgi")
FILES = ["code/inference.py", "code/requirements.txt", "model.json", "model.safetensors", "samples.npz"]


def pictures(count: int, side: int = 32) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def made(folder: Path, **settings: Any) -> tuple[Network, ModelCard]:
    spec = ClassifierSpec(**{"data": "x", "weights": "none", "image_size": 32, "backbone": "squeezenet1_1", **settings})
    network = build(spec, len(CLASSES)).network
    card = ModelCard(
        classes=CLASSES,
        preprocess=network.preprocess,
        backbone=spec.backbone,
        hidden=spec.hidden,
        dropout=spec.dropout,
        temperature=1.7,
        spec=spec.model_dump(mode="json"),
    )
    artifact.save(folder, network, card, pictures(70, network.preprocess.image_size))
    return network, card


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job") / "model"
    made(folder)
    return folder


@pytest.fixture(scope="module")
def archive(model: Path) -> Path:
    path = model.parent / "output" / "model.tar.gz"
    artifact.pack(model, path)
    return path


def test_the_files(model: Path, archive: Path) -> None:
    assert sorted(path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()) == FILES
    with tarfile.open(archive) as tar:
        assert tar.getnames() == FILES
        assert {(each.mtime, each.uid, each.gid, each.uname, each.mode) for each in tar} == {(0, 0, 0, "", 0o644)}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"hidden": (9, 5), "dropout": 0.3},
        {"backbone": "mobilenet_v3_small"},
        {"backbone": "resnet18", "freeze": "none"},
        {"backbone": "mnasnet0_5"},
        {"backbone": "timm/test_vit", "image_size": 160},
        {"backbone": "timm/test_vit", "image_size": 96},
        {"backbone": "timm/test_efficientnet.r160_in1k", "image_size": 64},
    ],
    ids=str,
)
def test_round_trip(tmp_path: Path, settings: dict[str, Any]) -> None:
    network, card = made(tmp_path / "model", **settings)
    artifact.pack(tmp_path / "model", tmp_path / "model.tar.gz")
    side = network.preprocess.image_size
    network.eval()
    with torch.inference_mode():
        expected = network(torch.from_numpy(pictures(70, side)[:64]).permute(0, 3, 1, 2)).numpy()
    for place in (tmp_path, tmp_path / "model", tmp_path / "model.tar.gz"):
        found = artifact.load(place)
        assert found.card == card.model_copy(update={"backbone": network.name})
        assert np.array_equal(found.images, pictures(70, side)[:64])
        np.testing.assert_allclose(found.logits, expected, atol=1e-5, rtol=1e-5)
        with torch.inference_mode():
            again = found.network(torch.from_numpy(found.images).permute(0, 3, 1, 2)).numpy()
        np.testing.assert_allclose(again, found.logits, atol=1e-5, rtol=1e-5)


def test_known_features_of_the_samples_give_the_same_logits(tmp_path: Path) -> None:
    network, card = made(tmp_path / "whole", hidden=(16,))
    samples = artifact.load(tmp_path / "whole").images
    with torch.inference_mode():
        features = network.eval().features(torch.from_numpy(samples).permute(0, 3, 1, 2)).numpy()
    artifact.save(tmp_path / "head", network, card, samples, features)
    whole, head = artifact.load(tmp_path / "whole"), artifact.load(tmp_path / "head")
    np.testing.assert_allclose(head.logits, whole.logits, atol=1e-5)


def test_an_archive_of_level_0_is_read_like_any_other(model: Path, tmp_path: Path) -> None:
    artifact.pack(model, tmp_path / "model.tar.gz", level=0)
    np.testing.assert_array_equal(artifact.load(tmp_path / "model.tar.gz").logits, artifact.load(model).logits)


def test_saving_leaves_the_network_as_it_is(tmp_path: Path) -> None:
    network, card = made(tmp_path / "a", freeze=2)
    network.train()
    trainable = len(network.trainable())
    artifact.save(tmp_path / "b", network, card, pictures(3))
    assert network.training
    assert len(network.trainable()) == trainable


def test_weights_in_bfloat16_and_channels_last_are_stored_as_float32(tmp_path: Path) -> None:
    network, card = made(tmp_path / "a")
    network.to(torch.bfloat16).to(memory_format=torch.channels_last)
    artifact.save(tmp_path / "b", network, card, pictures(3))
    assert {tensor.dtype for tensor in load_file(tmp_path / "b" / "model.safetensors").values()} == {torch.float32}


def test_no_samples_at_all(tmp_path: Path) -> None:
    network, card = made(tmp_path / "a")
    artifact.save(tmp_path / "b", network, card, pictures(0))
    assert artifact.load(tmp_path / "b").logits.shape == (0, 4)


def test_equal_contents_give_equal_bytes(tmp_path: Path, model: Path, archive: Path) -> None:
    made(tmp_path / "model")
    os.utime(tmp_path / "model" / "model.json", (1, 1))
    (tmp_path / "model" / "code" / "__pycache__").mkdir()
    (tmp_path / "model" / "code" / "__pycache__" / "inference.pyc").write_bytes(b"x")
    artifact.pack(tmp_path / "model", tmp_path / "model.tar.gz")
    assert (tmp_path / "model.tar.gz").read_bytes() == archive.read_bytes()


@pytest.mark.slow
def test_loading_needs_no_cache_no_network_access_and_no_timm(archive: Path, tmp_path: Path) -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise SystemExit('network')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "from pathlib import Path; from houndsight.models.artifact import load\n"
        f"load(Path({str(archive)!r}))\n"
        "sys.exit('timm' in sys.modules)"
    )
    settings = {**os.environ, "TORCH_HOME": str(tmp_path / "none"), "HF_HOME": str(tmp_path / "none")}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=settings).returncode == 0
    assert not (tmp_path / "none").exists()


# ---------------------------------------------------------------------------------- what is not there


def test_places_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        artifact.load(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"no model\.json"):
        artifact.load(tmp_path)
    (tmp_path / "spec.json").write_text("{}")
    with pytest.raises(ModelError, match="has no model"):
        artifact.load(tmp_path)


# ------------------------------------------------------------------------------------ broken contents


def edited(model: Path, target: Path, change: Callable[[Path], None]) -> Path:
    for name in FILES:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes((model / name).read_bytes())
    change(target)
    return target


def card_with(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        document = json.loads((folder / "model.json").read_text())
        document.update(changes)
        (folder / "model.json").write_text(json.dumps(document))

    return change


def tensors_with(edit: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        edit(state)
        save_file(state, folder / "model.safetensors")

    return change


def samples_with(**arrays: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with np.load(folder / "samples.npz") as file:
            held = {**dict(file), **arrays}
        np.savez(folder / "samples.npz", allow_pickle=True, **{k: v for k, v in held.items() if v is not None})

    return change


def bytes_of(name: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change


def huge_header(name: str) -> bytes:
    """A .npz whose array claims to have 2**50 bytes."""
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for each, dtype in (("images", "|u1"), ("logits", "<f4")):
            head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({2**50 if each == name else 1},), }}"
            head = head.ljust(117) + "\n"
            file.writestr(
                f"{each}.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + b"\0" * 4
            )
    return out.getvalue()


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no card": (lambda folder: (folder / "model.json").unlink(), "no model.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors"),
    "no samples": (lambda folder: (folder / "samples.npz").unlink(), "no samples.npz"),
    "card not JSON": (bytes_of("model.json", b"{"), "is broken"),
    "card not text": (bytes_of("model.json", b"\xff\xfe\x00"), "is broken"),
    "card nested": (bytes_of("model.json", b"[" * 100_000), "is broken"),
    "card a list": (bytes_of("model.json", b"[]"), "format None"),
    "format 2": (card_with(format=2), "format 2; this version reads format 1"),
    "format true": (card_with(format=True), "format True"),
    "unknown key": (card_with(colour="red"), "no such setting"),
    "wrong type": (card_with(classes=7), "is broken"),
    "no classes": (card_with(classes=[]), "its classes"),
    "classes twice": (card_with(classes=["a", "b", "a", "c"]), "its classes"),
    "a class less": (card_with(classes=["a", "b", "c"]), "says 3 classes"),
    "a class more": (card_with(classes=list("abcde")), "says 5 classes"),
    "absurd width": (card_with(hidden=[10**12]), "hidden layers"),
    "temperature 0": (card_with(temperature=0.0), "temperature"),
    "temperature infinite": (card_with(temperature=float("inf")), "temperature"),
    "std 0": (
        card_with(preprocess={"image_size": 32, "resize": 37, "std": [0, 1, 1], "mean": [0, 0, 0]}),
        "normalisation",
    ),
    "another size": (card_with(preprocess={"image_size": 64, "resize": 73}), "images has the shape"),
    "unknown backbone": (card_with(backbone="sqeezenet1_1"), "No torchvision or timm network"),
    "another backbone": (card_with(backbone="alexnet"), "are not those of 'alexnet'"),
    "backbone a path": (card_with(backbone="timm/../../x"), "No torchvision or timm network"),
    "tensor missing": (tensors_with(lambda state: state.pop("backbone.features.0.bias")), "are not those of"),
    "tensor too many": (tensors_with(lambda state: state.update(other=torch.zeros(2))), "are not those of"),
    "tensor of another shape": (
        tensors_with(lambda state: state.update({"backbone.features.0.bias": torch.zeros(3)})),
        "are not those of",
    ),
    "no head": (
        tensors_with(lambda state: [state.pop(name) for name in list(state) if name.startswith("head.")]),
        "head has the shapes",
    ),
    "weights empty": (bytes_of("model.safetensors", b""), "is broken"),
    "weights a pickle": (bytes_of("model.safetensors", pickle.dumps({"a": 1})), "is broken"),
    "weights claim too much": (bytes_of("model.safetensors", struct.pack("<Q", 2**60) + b"{}"), "is broken"),
    "samples empty": (bytes_of("samples.npz", b""), "is broken"),
    "samples a pickle": (bytes_of("samples.npz", pickle.dumps([1])), "is broken"),
    "samples of objects": (samples_with(images=np.array([{}, {}], dtype=object)), "is broken"),
    "samples without logits": (samples_with(logits=None), "is broken"),
    "samples not finite": (samples_with(logits=np.full((64, 4), np.nan, np.float32)), "do not go together"),
    "samples too few logits": (samples_with(logits=np.zeros((3, 4), np.float32)), "do not go together"),
    "samples in float64": (samples_with(logits=np.zeros((64, 4))), "is broken"),
    "samples too many": (samples_with(images=np.zeros((65, 32, 32, 3), np.uint8)), "is broken"),
    "images claim too much": (bytes_of("samples.npz", huge_header("images")), "is broken"),
    "logits claim too much": (bytes_of("samples.npz", huge_header("logits")), "is broken"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_contents(model: Path, tmp_path: Path, kind: str) -> None:
    change, said = BROKEN[kind]
    folder = edited(model, tmp_path / "model", change)
    with pytest.raises(ModelError, match=said):
        artifact.load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "samples.npz", "model.json"])
@pytest.mark.parametrize("kept", [0.01, 0.5, 0.99])
def test_truncated_contents(model: Path, tmp_path: Path, name: str, kept: float) -> None:
    whole = (model / name).read_bytes()
    with pytest.raises(ModelError):
        artifact.load(edited(model, tmp_path / "model", bytes_of(name, whole[: int(len(whole) * kept)])))


# ---------------------------------------------------------------------------------- hostile archives


def member(name: str, content: bytes = b"x", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def packed(path: Path, *members: tuple[tarfile.TarInfo, bytes], with_model: Path | None = None) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        if with_model:
            for name in FILES:
                tar.add(with_model / name, name)
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


HOSTILE: dict[str, tuple[tuple[tarfile.TarInfo, bytes], str]] = {
    "climbing": (member("../evil.txt"), "would leave its folder"),
    "climbing inside": (member("code/../../evil.txt"), "would leave its folder"),
    "absolute": (member("/evil.txt"), "would leave its folder"),
    "backslash": (member("..\\evil.txt"), "would leave its folder"),
    "symbolic link": (member("code/x", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "link or a device"),
    "link over a file": (member("model.json", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "link or a device"),
    "hard link": (member("code/x", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd"), "link or a device"),
    "device": (member("code/x", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3), "link or a device"),
    "pipe": (member("code/x", b"", type=tarfile.FIFOTYPE), "link or a device"),
    "pickle": (member("model.pth", pickle.dumps({})), "a pickle"),
    "pickle deep inside": (member("code/lib/DATA.PKL", pickle.dumps({})), "a pickle"),
    "the card twice": (member("./model.json", b"{}"), "holds 'model.json' twice"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_members(model: Path, tmp_path: Path, kind: str) -> None:
    evil, said = HOSTILE[kind]
    before = set(tmp_path.parent.iterdir())
    with pytest.raises(ModelError, match=said):
        artifact.load(packed(tmp_path / "model.tar.gz", evil, with_model=model))
    assert set(tmp_path.parent.iterdir()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.tar.gz"]


def test_other_files_of_an_archive_are_not_unpacked(model: Path, tmp_path: Path) -> None:
    extra = [member("README.md"), member("code/helper.py"), member("code", b"", type=tarfile.DIRTYPE)]
    assert artifact.load(packed(tmp_path / "model.tar.gz", *extra, with_model=model)).card.classes == CLASSES


def test_a_bomb(tmp_path: Path) -> None:
    path = tmp_path / "model.tar.gz"
    with gzip.open(path, "wb", compresslevel=9) as zipped:
        info, _ = member("samples.npz", b"", size=2**28)
        zipped.write(info.tobuf())
        for _ in range(16):
            zipped.write(bytes(2**24))
    with pytest.raises(ModelError, match="far more than a classifier holds"):
        artifact.load(path)


def test_more_members_than_a_classifier_has(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="far more"):
        artifact.load(packed(tmp_path / "model.tar.gz", *(member(f"code/{each}.txt") for each in range(1001))))


def test_a_sparse_member(tmp_path: Path) -> None:
    """A few bytes that claim to be 16 GiB; written by hand, for tarfile does not write them."""
    info, _ = member("model.safetensors", b"", type=tarfile.GNUTYPE_SPARSE)
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386 : 386 + 24] = b"%011o\0%011o\0" % (0, 0)
    header[483:495] = b"%011o\0" % (8**11 - 1)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    (tmp_path / "model.tar.gz").write_bytes(gzip.compress(bytes(header) + bytes(1024)))
    with pytest.raises(ModelError):
        artifact.load(tmp_path / "model.tar.gz")


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.1, 0.5, 0.9, 0.9999])
def test_truncated_archive(archive: Path, tmp_path: Path, kept: float) -> None:
    whole = archive.read_bytes()
    (tmp_path / "model.tar.gz").write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ModelError, match="not a whole"):
        artifact.load(tmp_path / "model.tar.gz")


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bits_are_noticed(archive: Path, tmp_path: Path, seed: int) -> None:
    damaged = bytearray(archive.read_bytes())
    place = int(np.random.default_rng(seed).integers(10, len(damaged)))
    damaged[place] ^= 0x10
    (tmp_path / "model.tar.gz").write_bytes(damaged)
    with pytest.raises(ModelError):
        artifact.load(tmp_path / "model.tar.gz")


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"PK\x03\x04", os.urandom(2000), gzip.compress(b"no tar")],
    ids=["empty", "html", "zip", "noise", "gzip"],
)
def test_no_archive_at_all(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.tar.gz").write_bytes(content)
    with pytest.raises(ModelError):
        artifact.load(tmp_path / "model.tar.gz")


def test_an_empty_archive(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model\.json"):
        artifact.load(packed(tmp_path / "model.tar.gz"))


def test_an_absurd_head_is_never_allocated(model: Path, tmp_path: Path) -> None:
    folder = edited(model, tmp_path / "model", card_with(hidden=[10**9, 10**9]))
    tracemalloc.start()
    with pytest.raises(ModelError):
        artifact.load(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50_000_000
