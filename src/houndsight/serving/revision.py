"""A model made ready for the instances of an endpoint: compiled once, kept in the endpoint's folder, told to each."""

import asyncio
import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

from houndsight.errors import JobError, from_document
from houndsight.folders import EndpointFolder
from houndsight.serving import modeldir
from houndsight.serving.endpoint import EndpointSpec, Variant
from houndsight.workspace import friendly_disk_errors, remove_tree, write_json

log = logging.getLogger("houndsight")


def settings_file(folder: EndpointFolder, revision: str) -> Path:
    """Where the instances of a model read what they are told."""
    return folder.models / revision / "settings.json"


async def prepare(folder: EndpointFolder, variant: Variant, spec: EndpointSpec) -> dict[str, Any]:
    """Compile the model of a variant, keep it in the endpoint's folder, and say what came of it.

    Raises `ModelError` where it cannot be loaded or no runtime agrees with it; nothing is left of it then.
    """
    place = folder.models / variant.revision
    with friendly_disk_errors(folder.path):
        place.mkdir(parents=True)
    try:
        if variant.staged:
            settings = spec.settings(folder, str(place / "model"), variant.instances)
            settings, about = await asyncio.to_thread(modeldir.take, Path(variant.staged), place, settings)
            write_json(settings_file(folder, variant.revision), settings)
            return about
        said = await _run(variant.model, folder.path.parent.parent / "cache", spec.runtime)
        await asyncio.to_thread(_take, Path(said["folder"]), place / "model")
        write_json(
            settings_file(folder, variant.revision), spec.settings(folder, str(place / "model"), variant.instances)
        )
    except BaseException:
        remove_tree(place)
        raise
    return {"runtime": said["prepared"]["runtime"]}


async def _run(model: str, cache: Path, runtime: str) -> dict[str, Any]:
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "houndsight.serving.prepare", model, "--cache", str(cache), "--runtime", runtime),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        out, _ = await started.communicate()
    except asyncio.CancelledError:
        started.kill()
        raise
    line = out.strip().rpartition(b"\n")[2]
    code = started.returncode or 0
    if not line and code < 0 and runtime == "auto":  # a compiled network that brings its process down serves nobody
        log.warning("Trying compiled networks ended by signal %d; PyTorch serves instead.", -code)
        return await _run(model, cache, "eager")
    if not line:
        raise JobError(f"The model {model} could not be prepared.", "The endpoint's log says more.")
    said: dict[str, Any] = json.loads(line)
    if "error" in said:
        raise from_document(said["error"])
    return said


def _take(source: Path, target: Path) -> None:
    """Copy what was prepared out of the cache, which may be deleted, by hard links where the disk allows it."""
    with friendly_disk_errors(target):
        shutil.copytree(source, target, copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
