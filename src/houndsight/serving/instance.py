"""One process of an endpoint: opens a prepared model, warms it, and answers on the sockets it was given.

python -m houndsight.serving.instance --name NAME --variant VARIANT --settings FILE --listen WHERE [--listen WHERE]
                                      [--slot N] [--link FD]
"""

import argparse
import asyncio
import gc
import io
import logging
import os
import resource
import socket
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from houndsight.errors import HoundsightError, JobError, RequestError
from houndsight.serving.accept import Board
from houndsight.serving.link import Link
from houndsight.serving.settings import InstanceSettings

if TYPE_CHECKING:
    from houndsight.serving.metrics import Metrics
    from houndsight.serving.service import Service

log = logging.getLogger("houndsight")

BACKLOG = 2048
_FILES = 65_536


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one instance; the exit code is 0 after a drain and 1 where it could not begin."""
    asked = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    link = Link(asked.link) if asked.link is not None else None
    try:
        settings = InstanceSettings.read(Path(asked.settings))
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(asked, settings, link))
    except HoundsightError as error:
        log.error("The instance cannot serve: %s", error)  # noqa: TRY400  # no mistake of ours, so no traceback
        if link is not None:
            link.failed(error)
        return 1
    except Exception as error:
        log.exception("The instance failed.")
        if link is not None:
            link.failed(JobError(f"{type(error).__name__}: {error}", "The endpoint's log has the traceback."))
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="One instance of an endpoint.")
    parser.add_argument("--name", required=True)
    parser.add_argument("--variant", required=True)
    parser.add_argument("--settings", required=True)
    parser.add_argument("--listen", action="append", required=True)
    parser.add_argument("--slot", type=int, default=0)
    parser.add_argument("--link", type=int)
    return parser


async def _serve(asked: argparse.Namespace, settings: InstanceSettings, link: Link | None) -> None:
    from houndsight.serving.metrics import Metrics

    shared = settings.metrics
    if shared is not None:
        shared.mkdir(parents=True, exist_ok=True)
        _forget_the_dead(shared)
    board = Board(shared / "board" if shared is not None else None, asked.slot)
    metrics = Metrics(asked.name, asked.variant, shared, board.pids)

    from houndsight.serving.app import build_app
    from houndsight.serving.capture import Capture
    from houndsight.serving.routes import Routes
    from houndsight.serving.server import Server

    _more_files()
    service, runtime = await _service(settings, metrics)
    routes, capture = Routes(), None
    if settings.capture is not None:
        share, most = settings.capture_share, settings.capture_bytes
        capture = Capture(settings.capture, share=share, most=most, slot=asked.slot)
    starlette = build_app(
        service,
        name=asked.name,
        variant=asked.variant,
        limits=settings.limits,
        metrics=metrics,
        key=settings.key_file.read_bytes().strip() if settings.key_file is not None else None,
        forward=routes.forward,
        capture=capture,
        load=board.everybody,
    )
    server = Server(starlette, settings.limits, board)
    sockets = [listening(where) for where in asked.listen]
    gc.collect()
    gc.freeze()  # what a model and a web stack consist of is never garbage
    if link is not None:
        link.keep(beat=server.beat, order=routes.order, gone=server.drain)
    try:
        await server.run(sockets, lambda: _ready(link, asked, runtime, service.problem))
    finally:
        service.stop()
        if capture is not None:
            capture.close()
        if link is not None:
            link.close()


async def _service(settings: InstanceSettings, metrics: "Metrics") -> "tuple[Service, str]":
    """What answers, warm, and what to call it: a prepared classifier, or the handlers of a script."""
    if settings.handlers is not None:
        from houndsight.serving.handlers import HandlerService

        return await HandlerService.open(settings, metrics), f"handlers of {settings.handlers.name}"
    from houndsight.serving.predictor import Predictor
    from houndsight.serving.service import ImageService

    predictor = Predictor.open(settings.model, settings.threads)
    predictor.pixels = settings.limits.pixels
    warm(predictor, settings.batch)
    return ImageService(predictor, settings, metrics), predictor.runtime


def _ready(link: Link | None, asked: argparse.Namespace, runtime: str, problem: str) -> None:
    log.info("Instance %d of %s (%s) is ready: %s.", asked.slot, asked.name, asked.variant, runtime)
    if link is not None:
        link.ready(problem)


def warm(predictor: Any, batch: int) -> None:
    """Do once what the first request would otherwise wait for: a decode, and a forward pass of each batch size."""
    import torch
    from PIL import Image

    torch.set_num_threads(1)  # of the resize; each compute thread has its core
    file = io.BytesIO()
    side = predictor.preprocess.resize + 32
    Image.fromarray(np.zeros((side, side + 20, 3), np.uint8)).save(file, "JPEG")
    pixels = predictor.decode(file.getvalue())
    for size in {1, batch}:
        predictor.predict(np.stack([pixels] * size))


def _more_files() -> None:
    """A connection is a file; the usual limit of 1024 is for programs that still use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def listening(where: str) -> tuple[socket.socket, bool]:
    """The listening socket that `where` names, and whether it is private (a unix socket)."""
    kind, _, rest = where.partition(":")
    if kind == "fd":
        return socket.socket(fileno=os.dup(int(rest))), False
    try:
        if kind == "unix":
            path = Path(rest)
            with suppress(FileNotFoundError):
                if stat.S_ISSOCK(path.lstat().st_mode):
                    path.unlink()
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(rest)
            path.chmod(0o600)
        else:
            host, _, port = where.rpartition(":")
            listener = socket.create_server((host.strip("[]"), int(port)), backlog=BACKLOG, reuse_port=False)
        listener.listen(BACKLOG)
    except OSError as error:
        raise RequestError(f"Cannot listen on {where}: {error.strerror}.", "Choose another --port.") from error
    return listener, kind == "unix"


def _forget_the_dead(shared: Path) -> None:
    from houndsight.serving.metrics import forget

    for file in shared.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists() and Path("/proc").exists():
            forget(shared, int(pid))


if __name__ == "__main__":
    sys.exit(main())
