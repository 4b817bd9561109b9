"""The trained classifier as files: one writer, one reader, one format; what leaves the job and what an endpoint loads.

    model.safetensors    every tensor of the network, float32
    model.json           the `ModelCard`
    samples.npz          up to 64 validation images and the logits that eager float32 gave for them
    code/inference.py    Amazon's handlers; code/requirements.txt what they need beside the container

Nothing of it is ever unpickled. An archive is read member by member under limits; only the files named above leave it.
"""

import gzip
import json
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from houndsight.errors import ModelError, SpecError
from houndsight.models import inference
from houndsight.models.head import make_head
from houndsight.models.network import Network, rebuild
from houndsight.results import ModelCard
from houndsight.workspace import atomic_write, friendly_disk_errors, write_json

FORMAT = 1
SAMPLES = 64

_WEIGHTS, _CARD, _SAMPLES = "model.safetensors", "model.json", "samples.npz"
_PICKLES = {".bin", ".ckpt", ".dill", ".joblib", ".npy", ".pickle", ".pkl", ".pt", ".pt2", ".pth"}
_LIMITS = {_WEIGHTS: 16 * 2**30, _CARD: 64 * 2**20, _SAMPLES: 4 * 2**30}
_MAX_MEMBERS = 1000
_MAX_BYTES = 20 * 2**30
_MAX_RATIO = 200  # unpacked to packed; weights reach 1.1, an untrained network of zeros 150
_MAX_CLASSES = 100_000
_BROKEN = (EOFError, KeyError, NotImplementedError, OSError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error)
_REPAIR = "Copy it again from the job that made it, or pack it anew."


@dataclass
class Artifact:
    """A classifier as it was read back."""

    card: ModelCard
    network: Network
    """In eval mode, on the CPU, float32."""
    images: NDArray[np.uint8]
    """Stored validation images (n, S, S, 3)."""
    logits: NDArray[np.float32]
    """What eager float32 gave for them, (n, C)."""


# --------------------------------------------------------------------------------------------- write


def save(
    folder: Path,
    network: Network,
    card: ModelCard,
    samples: NDArray[np.uint8],
    features: NDArray[np.float32] | None = None,
) -> None:
    """Write the artifact of `network` into `folder`; `samples` are validation images (n, S, S, 3), 64 are kept.

    `features` (n, D) are what its backbone gives for them in eager float32, where that is known: then the head alone
    is run (2 s of CPU for 64 images and MobileNetV2). `model.json` is written last: a folder without it is no artifact.
    The network may lie on any device and stays as it is. Raises `ValueError` where card and network contradict each
    other, which is our own mistake.
    """
    from safetensors.torch import save as to_bytes

    card = card.model_copy(update={"backbone": network.name, "preprocess": network.preprocess, "format": FORMAT})
    samples = np.ascontiguousarray(samples[:SAMPLES])
    state = _tensors(network)
    logits = _eager(_restore(card, state), samples) if features is None else _of_head(card, state, features[:SAMPLES])
    with friendly_disk_errors(folder):
        (folder / "code").mkdir(parents=True, exist_ok=True)
        (folder / _CARD).unlink(missing_ok=True)
        with atomic_write(folder / _WEIGHTS) as file:
            file.write(to_bytes(state))
        with atomic_write(folder / _SAMPLES) as file:
            np.savez(file, images=samples, logits=logits)
        with atomic_write(folder / "code" / "inference.py") as file:
            file.write(Path(inference.__file__).read_bytes())
        with atomic_write(folder / "code" / "requirements.txt") as file:
            file.write(_requirements(network.name).encode())
        write_json(folder / _CARD, card)


def _tensors(network: Network) -> dict[str, torch.Tensor]:
    state = {}
    for name, tensor in network.state_dict().items():
        kind = torch.float32 if tensor.is_floating_point() else tensor.dtype
        state[name] = tensor.detach().to("cpu", kind).contiguous().clone()  # safetensors refuses shared memory
    return state


def _requirements(backbone: str) -> str:
    lines = ["safetensors"]
    if backbone.startswith("timm/"):
        import timm

        lines.append(f"timm=={timm.__version__}")
    return "\n".join(lines) + "\n"


def _eager(network: Network, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    rows = [np.zeros((0, network.head[-1].out_features), np.float32)]  # type: ignore[index]
    with torch.inference_mode():
        for start in range(0, len(images), 16):
            batch = torch.from_numpy(images[start : start + 16]).permute(0, 3, 1, 2)
            rows.append(network(batch).numpy())
    return np.concatenate(rows)


def _of_head(card: ModelCard, state: dict[str, torch.Tensor], features: NDArray[np.float32]) -> NDArray[np.float32]:
    head = make_head(_check_head(card, state), card.hidden, len(card.classes), card.dropout, 0).eval()
    head.load_state_dict({name[5:]: tensor for name, tensor in state.items() if name.startswith("head.")})
    with torch.inference_mode():
        return np.asarray(head(torch.from_numpy(np.array(features))).numpy(), dtype=np.float32)


def pack(folder: Path, archive: Path, level: int = 1) -> None:
    """Pack an artifact folder as `model.tar.gz`; equal contents give equal bytes.

    Level 1: weights hardly shrink, and 6 takes twice as long for one per cent. Level 0 takes no time: for models of
    which few are kept.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    files = [path for path in files if "__pycache__" not in path.parts]
    with friendly_disk_errors(archive.parent):
        archive.parent.mkdir(parents=True, exist_ok=True)
        with (
            atomic_write(archive) as out,
            gzip.GzipFile(filename="", mode="wb", compresslevel=level, fileobj=out, mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for path in files:
                member = tarfile.TarInfo(path.relative_to(folder).as_posix())
                member.size, member.mode = path.stat().st_size, 0o644
                with path.open("rb") as content:
                    tar.addfile(member, content)


# ---------------------------------------------------------------------------------------------- read


def load(path: Path) -> Artifact:
    """Read an artifact folder, a job's folder or a `model.tar.gz`.

    Everything is checked before it is used: `ModelError` for what is broken, hostile, of another format, or does not
    hold together. Needs no cache of weights and no network access.
    """
    with _folder(path) as folder:
        card = _read_card(folder / _CARD)
        state = _read_tensors(folder / _WEIGHTS)
        network = _restore(card, state)
        images, logits = _read_samples(folder / _SAMPLES, card)
    return Artifact(card, network, images, logits)


@contextmanager
def _folder(path: Path) -> Iterator[Path]:
    if path.is_file():
        with tempfile.TemporaryDirectory(prefix="houndsight-") as unpacked:
            _unpack(path, Path(unpacked))
            yield Path(unpacked)
        return
    for folder in (path, path / "model"):
        if (folder / _CARD).is_file():
            yield folder
            return
    if (path / "spec.json").is_file():
        raise ModelError(f"The job '{path.name}' has no model (yet).", f"`houndsight jobs` says how far it is: {path}.")
    what = "has no model.json in it" if path.is_dir() else "does not exist"
    raise ModelError(f"The model {path} {what}.", "Give a job's name, an artifact folder or a model.tar.gz.")


def _unpack(archive: Path, target: Path) -> None:
    try:
        with archive.open("rb") as raw, gzip.GzipFile(fileobj=raw) as zipped:
            with tarfile.open(fileobj=zipped, mode="r|") as tar:
                _take_members(tar, archive, target)
            while zipped.read(2**20):  # to the end, where the checksum stands
                pass
    except (EOFError, OSError, tarfile.TarError, zlib.error, UnicodeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise ModelError(f"{archive} cannot be unpacked: {error.strerror}.", "Is there room for it?") from error
        reason = str(error).strip() or type(error).__name__
        raise ModelError(f"{archive} is not a whole .tar.gz archive: {reason}.", _REPAIR) from error


def _take_members(tar: tarfile.TarFile, archive: Path, target: Path) -> None:
    total, most = 0, max(64 * 2**20, min(_MAX_BYTES, _MAX_RATIO * archive.stat().st_size))
    seen: set[str] = set()
    for count, member in enumerate(tar, start=1):
        name = _checked_name(member, archive)
        total += member.size
        if count > _MAX_MEMBERS or total > most or member.size > _LIMITS.get(name, most):
            raise ModelError(f"{archive} unpacks to far more than a classifier holds (at '{name}').", "It is refused.")
        if name in _LIMITS:
            if name in seen:
                raise ModelError(f"{archive} holds '{name}' twice.", "It is refused.")
            seen.add(name)
            member.name = name
            tar.extract(member, target, set_attrs=False, filter="data")


def _checked_name(member: tarfile.TarInfo, archive: Path) -> str:
    path = PurePosixPath(member.name)
    shown = member.name[:100]
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        raise ModelError(f"{archive} holds '{shown}', which would leave its folder when unpacked.", "It is refused.")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise ModelError(f"{archive} holds '{shown}', which is a link or a device, not a file.", "It is refused.")
    if path.suffix.lower() in _PICKLES:
        raise ModelError(
            f"{archive} holds '{shown}', a pickle, which can run any program when it is opened.",
            "It is refused; a model of Houndsight keeps its weights in model.safetensors.",
        )
    return path.as_posix()


# --------------------------------------------------------------------------------------------- check


def _read_card(path: Path) -> ModelCard:
    if not path.is_file():
        raise ModelError(f"There is no {path.name} in the model.", _REPAIR)
    if path.stat().st_size > _LIMITS[_CARD]:
        raise ModelError(f"{path.name} has more than {_LIMITS[_CARD]} bytes.", "It is refused.")
    try:
        document = json.loads(path.read_bytes())
        found = document.get("format") if isinstance(document, dict) else None
        if found != FORMAT or isinstance(found, bool):
            raise ModelError(
                f"The model has format {found!r}; this version reads format {FORMAT}.", "Use the version that wrote it."
            )
        card = ModelCard.read(path)
    except (ValueError, RecursionError, SpecError) as error:
        raise ModelError(f"The model's {path.name} is broken: {str(error)[:500]}", _REPAIR) from error
    names = card.classes
    problems = []
    if not 1 <= len(names) <= _MAX_CLASSES or len(set(names)) != len(names):
        problems.append("its classes are not 1 to 100,000 different names")
    if not 0 < card.temperature < float("inf"):
        problems.append("its temperature is not a positive number")
    values = np.array([*card.preprocess.mean, *card.preprocess.std])
    if not np.isfinite(values).all() or (values[3:] <= 0).any():
        problems.append("its normalisation is not finite and positive")
    if problems:
        raise ModelError(f"The model's {path.name} is broken: {'; '.join(problems)}.", _REPAIR)
    return card


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ModelError(f"There is no {path.name} in the model.", _REPAIR)
    try:
        state: dict[str, torch.Tensor] = load_file(path)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"The model's {path.name} is broken: {error}", _REPAIR) from error
    return state


def _restore(card: ModelCard, state: dict[str, torch.Tensor]) -> Network:
    features = _check_head(card, state)
    network = rebuild(card, features)
    try:
        inference.load_exactly(network, state)
    except RuntimeError as error:
        said = " ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise ModelError(f"The model's tensors are not those of '{card.backbone}': {said[:400]}", _REPAIR) from error
    return network


def _check_head(card: ModelCard, state: dict[str, torch.Tensor]) -> int:
    """The head is compared with the card before any layer is made, so that no absurd width is ever allocated."""
    layers = sorted(
        (int(parts[1]), tensor)
        for name, tensor in state.items()
        if len(parts := name.split(".")) == 3 and parts[0] == "head" and parts[1].isdigit() and parts[2] == "weight"
    )
    shapes = [tuple(tensor.shape) for _, tensor in layers]
    widths = [*card.hidden, len(card.classes)]
    features = shapes[0][1] if shapes and len(shapes[0]) == 2 else 0
    expected = list(zip(widths, [features, *card.hidden], strict=True))
    if not features or shapes != expected:
        raise ModelError(
            f"The model's head has the shapes {shapes[:4]}; its card says {len(card.classes)} classes "
            f"and hidden layers of {list(card.hidden)[:4]}.",
            _REPAIR,
        )
    return features


def _read_samples(path: Path, card: ModelCard) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    if not path.is_file():
        raise ModelError(f"There is no {path.name} in the model.", _REPAIR)
    side = card.preprocess.image_size
    try:
        with zipfile.ZipFile(path) as file:
            images = _read_array(file, "images", np.dtype(np.uint8), (side, side, 3))
            logits = _read_array(file, "logits", np.dtype(np.float32), (len(card.classes),))
    except _BROKEN as error:
        raise ModelError(f"The model's {path.name} is broken: {error}", _REPAIR) from error
    if len(images) != len(logits) or not np.isfinite(logits).all():
        raise ModelError(f"The model's {path.name} is broken: images and logits do not go together.", _REPAIR)
    return images, logits


def _read_array(file: zipfile.ZipFile, name: str, kind: np.dtype[Any], row: tuple[int, ...]) -> NDArray[Any]:
    """One array of the .npz; its own description is looked at first: what that claims is what numpy allocates."""
    with file.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, found = read(member)
    if found != kind or len(shape) != len(row) + 1 or shape[1:] != row or not 0 <= shape[0] <= SAMPLES:
        raise ValueError(f"{name} has the shape {shape} and type {found}")
    with file.open(f"{name}.npy") as member:
        array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):  # to the end, where the checksum stands
            raise ValueError(f"{name} is followed by something else")
    return array
