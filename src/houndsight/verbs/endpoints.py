"""Deploy: from a trained model to an endpoint that outlives this process, and what is done with it afterwards."""

import logging
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from houndsight.backends import process
from houndsight.backends.logs import LOOK_SECONDS, LogLines
from houndsight.errors import HoundsightError, ImageError, JobError, RequestError, SpecError
from houndsight.folders import EndpointFolder
from houndsight.serving import control
from houndsight.serving import endpoint as base
from houndsight.serving.client import Endpoint
from houndsight.serving.control import Tell
from houndsight.serving.endpoint import EndpointSpec, EndpointStatus, Variant
from houndsight.verbs import handlers
from houndsight.verbs.handlers import Script
from houndsight.verbs.launch import END_MARGIN, launch, listen, new_revision, reap, url_of, write_key
from houndsight.verbs.models import find_model
from houndsight.verbs.predict import read_image
from houndsight.workspace import Workspace, remove_tree

log = logging.getLogger("houndsight")


@dataclass(frozen=True)
class Deployment:
    """One endpoint; holds nothing but its folder, so every property is what is so now."""

    files: EndpointFolder

    @property
    def name(self) -> str:
        """Name of the endpoint."""
        return self.files.name

    @property
    def status(self) -> EndpointStatus:
        """Where it stands; one whose supervisor died is found and marked Failed."""
        reap()
        return base.status(self.files)

    @property
    def state(self) -> str:
        """Creating, InService, Updating, RollingBack, Deleting or Failed."""
        return self.status.state

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.status.url

    @property
    def spec(self) -> EndpointSpec:
        """What it serves and how."""
        return EndpointSpec.read(self.files.spec)

    @property
    def key(self) -> str | None:
        """The key that callers send as `X-Api-Key`, or None where there is none."""
        return self.files.key.read_text(encoding="utf-8").strip() if self.files.key.is_file() else None

    def client(self) -> Endpoint:
        """A client of it, which any program could have by address and key."""
        return Endpoint(self.url, api_key=self.key)

    def predict(self, image: bytes | str | Path, *, variant: str | None = None) -> list[dict[str, Any]]:
        """`[{"class", "probability"}, ...]`, most probable first, of one image: its bytes or a file."""
        client = self.client()
        try:
            return client.predict(image, variant=variant)
        finally:
            client.close()

    def document(self) -> dict[str, Any]:
        """What `houndsight deploy --json` prints."""
        status = self.status
        count = sum(each.instances for each in self.spec.variants)
        return {"endpoint": self.name, "url": status.url, "instances": count, "state": status.state}

    def describe(self) -> dict[str, Any]:
        """Everything there is to know, live where its supervisor answers."""
        status, spec = self.status, self.spec
        document = {
            **self.document(),
            "reason": status.reason,
            "created": status.created,
            "folder": str(self.files.path),
            "variants": [each.model_dump() for each in spec.variants],
            "running": [each.model_dump() for each in status.instances],
            "settings": spec.model_dump(mode="json", exclude={"variants"}),
        }
        if status.state not in ("Failed", "Creating"):
            live = control.ask(self.files, {"do": "describe"})
            document |= {key: live[key] for key in ("state", "reason", "variants")} | {"running": live["instances"]}
        return document

    def logs(self) -> str:
        """What supervisor and instances printed so far."""
        return self.files.log.read_text(encoding="utf-8", errors="replace") if self.files.log.is_file() else ""

    def follow(self) -> Iterator[str]:
        """The lines of its log from the first on, and new ones as they come, until its supervisor has ended."""
        lines, ended, pid = LogLines(self.files), False, self.status.pid
        yield from lines.fresh()
        while not ended:
            ended = not base.lives(self.files)
            if not ended and pid is not None:
                process.await_end(pid, LOOK_SECONDS)
            yield from lines.fresh()
        yield from lines.rest()

    def update(
        self,
        model: str | Path | None = None,
        *,
        instances: int | None = None,
        variants: dict[str, float] | None = None,
        canary: float | None = None,
        bake: float | None = None,
        script: Script | None = None,
        workspace: str | Path | None = None,
        tell: Tell = log.info,
    ) -> "Deployment":
        """Change it while it answers: another model, other shares, another number of instances.

        A new model is warm and checked before traffic moves to it, is watched for `bake` seconds, and taken back
        (`JobError`) where it answers with errors or loses an instance. `variants` are the shares of all variants.
        """
        if model is None and variants is None and instances is None:
            raise SpecError("Nothing is to be changed.", "Give a model, --instances or --variants.")
        if canary is not None and (model is None or variants is not None):
            raise SpecError("A canary is a new model in place of the old one.", "Give a model, and no --variants.")
        change: dict[str, Any] = {"instances": instances, "variants": variants, "canary": canary}
        if bake is not None:
            change["bake"] = bake
        _refuse_dead(self)
        if model is None:
            control.ask(self.files, {"do": "update", "change": change}, tell)
            return self
        path = find_model(model, workspace).absolute()
        with handlers.staged(model, path, script or Script(), workspace) as folder:
            change |= {"model": str(path), "revision": new_revision(), "staged": str(folder or "")}
            control.ask(self.files, {"do": "update", "change": change}, tell)
        return self

    def delete(self) -> None:
        """Let it finish what it has accepted, end all its processes, and remove its folder."""
        status = EndpointStatus.read(self.files.status)
        if status.pid is not None and base.lives(self.files):
            grace = self.spec.limits.drain_seconds + END_MARGIN
            try:
                control.ask(self.files, {"do": "delete"})
            except HoundsightError:
                process.signal_process(status.pid, None, signal.SIGTERM)
            if not process.await_end(status.pid, grace) and base.lives(self.files):
                process.kill_tree(status.pid, None)
        reap()
        _end_leftovers(self.name, EndpointStatus.read(self.files.status))
        remove_tree(self.files.path)


# ------------------------------------------------------------------------------------------------ verbs


def deploy(
    model: str | Path,
    *,
    name: str | None = None,
    instances: int = 1,
    host: str = "127.0.0.1",
    port: int = 0,
    api_key: str | None = None,
    script: Script | None = None,
    workspace: str | Path | None = None,
    tell: Tell = log.info,
    **settings: Any,
) -> Deployment:
    """Start an endpoint that serves `model`, and return when it answers; it then lives on by itself.

    `script` says which SageMaker script answers, for a model that is not Houndsight's. `settings` are the other fields
    of `EndpointSpec`: `runtime`, `top`, `form`, `reject_below`, `capture`, `limits`...
    Raises `ModelError` where the model cannot be served, `RequestError` where the port is taken; nothing stays then.
    """
    place = Workspace.find(workspace)
    path = find_model(model, workspace).absolute()
    variant = Variant.create(model=str(path), revision=new_revision(), instances=instances)
    spec = EndpointSpec.create(variants=(variant,), host=host, port=port, **settings)
    with handlers.staged(model, path, script or Script(), workspace) as staged, listen(spec, api_key) as listener:
        if staged is not None:
            spec = spec.model_copy(update={"variants": (variant.model_copy(update={"staged": str(staged)}),)})
        spec = spec.model_copy(update={"port": listener.getsockname()[1]})
        status = EndpointStatus(url=url_of(spec), created=time.time(), changed=time.time())
        files = place.create_endpoint(spec, status, name)
        try:
            write_key(files, api_key)
            for folder in (files.models, files.metrics, files.sockets):
                folder.mkdir()
            launch(files, listener, tell)
        except BaseException as error:
            if not isinstance(error, JobError):  # what failed by itself keeps its log
                Deployment(files).delete()
            raise
    return Deployment(files)


def open_endpoint(name: str, *, workspace: str | Path | None = None) -> Deployment:
    """The endpoint of that name; raises `WorkspaceError` with the nearest names where there is none."""
    return Deployment(Workspace.find(workspace).endpoint(name))


def endpoints(*, workspace: str | Path | None = None) -> list[Deployment]:
    """All endpoints of the workspace, oldest first."""
    place = Workspace.find(workspace)
    return [Deployment(place.endpoint(name)) for name in place.endpoint_names()]


def delete_endpoint(name: str, *, workspace: str | Path | None = None) -> None:
    """End an endpoint when it has finished what it accepted, and remove its folder."""
    open_endpoint(name, workspace=workspace).delete()


def invoke(
    name: str,
    images: str | Path | Iterable[str | Path],
    *,
    top: int | None = None,
    variant: str | None = None,
    workspace: str | Path | None = None,
) -> list[dict[str, Any]]:
    """What `predict` gives, answered by the endpoint of that name; `variant` says which model is to answer.

    At most as many classes an image as the endpoint was deployed with. An image that it refuses has an `error` instead
    of predictions, and what a script answers in words of its own is `answer`; the others are not hurt by it.
    """
    if top is not None and top < 1:
        raise SpecError(f"One setting is wrong: top: must be 1 or more (got {top}).")
    found = open_endpoint(name, workspace=workspace)
    _refuse_dead(found)
    client = found.client()
    paths = [Path(images)] if isinstance(images, str | Path) else [Path(each) for each in images]
    results: list[dict[str, Any]] = []
    for path in paths:
        entry: dict[str, Any] = {"image": str(path), "predictions": []}
        try:
            answer = client.ask(read_image(path), variant=variant)
            if isinstance(answer, dict) and isinstance(answer.get("predictions"), list):
                entry["predictions"] = answer["predictions"][:top]
            else:
                entry["answer"] = answer
        except ImageError as error:
            entry["error"] = error.document()
        results.append(entry)
    client.close()
    return results


# -------------------------------------------------------------------------------------------------- end


def _refuse_dead(of: Deployment) -> None:
    if not base.lives(of.files):
        raise RequestError(
            f"The endpoint '{of.name}' has failed: {of.status.reason}.",
            f"`houndsight delete-endpoint {of.name}` removes it; then deploy it again.",
        )


def _end_leftovers(name: str, status: EndpointStatus) -> None:
    """End what a killed supervisor left: instances that hang, or still finish their queue."""
    known = [(each.pid, each.pid_started) for each in status.instances] + list(status.helpers)
    left = [pid for pid, since in known if pid is not None and _is_ours(pid, since, name)]
    for pid in left:
        process.signal_process(pid, None, signal.SIGTERM)
    until = time.monotonic() + END_MARGIN
    for pid in left:
        if not process.await_end(pid, max(0.0, until - time.monotonic())):
            process.kill_tree(pid, None)


def _is_ours(pid: int, since: float | None, name: str) -> bool:
    """Whether that number is still that process: by its start time, or by its name where the clock has jumped."""
    if process.alive(pid, since):
        return True
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    return name in words and any(word.startswith("houndsight.serving") for word in words)
