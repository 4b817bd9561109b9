"""The process that an endpoint is: it holds the port, keeps the instances alive, and does what it is told.

    python -m houndsight.serving.supervisor <endpoint folder> --listener FD --report FD

Started by `verbs.endpoints` in a session of its own, with the listening socket and one end of a socket pair, on which
it says how the first start goes (as `control` does). It ends by an order, by SIGTERM, or because it cannot begin; its
instances see that on their line, finish what they have accepted, and go.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from houndsight.backends import process
from houndsight.errors import HoundsightError, JobError, RequestError
from houndsight.folders import EndpointFolder
from houndsight.serving import child as children
from houndsight.serving import control, counters, revision, rollout
from houndsight.serving.births import Births
from houndsight.serving.child import Child
from houndsight.serving.endpoint import EndpointSpec, EndpointState, EndpointStatus, Variant, held
from houndsight.serving.group import Group
from houndsight.workspace import remove_tree, write_json

log = logging.getLogger("houndsight")

LOCK_SECONDS = 2.0
MARGIN_SECONDS = 5.0
"""What an instance may take beyond its own time to drain before it is killed."""
CRASHES = 5
"""An endpoint none of whose instances answers, and each of which crashed so often in a row, has failed."""


class Supervisor:
    """One endpoint while its process lives."""

    def __init__(self, folder: EndpointFolder, listener: socket.socket) -> None:
        self.folder, self.listener = folder, listener
        self.spec = EndpointSpec.read(folder.spec)
        self.groups: list[Group] = []
        self.ending = asyncio.Event()
        self.births = Births(folder.name)
        self.last = ""
        """What became of the last update."""
        self._phase: EndpointState | None = "Creating"
        self._busy = asyncio.Lock()
        self._due = False
        self._status = EndpointStatus.read(folder.status)

    # ----------------------------------------------------------------------------------------- life

    async def run(self, report: socket.socket) -> None:
        """From Creating to the end; whoever started it hears on `report` when the first requests can come."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.ending.set)
        with held(self.folder, LOCK_SECONDS), self._reported(report) as tell:
            self._save()
            async with control.listening(self.folder, self.handle):
                await self._until_ending(self._create(tell))
                tell({"result": self.describe()})
                await self.ending.wait()
                self.phase("Deleting")
                self.listener.close()
                await asyncio.gather(*(group.shrink(0, self.grace) for group in self.groups))
                self.births.close()
        self._save()

    @contextmanager
    def _reported(self, report: socket.socket) -> Iterator[Any]:
        def tell(document: dict[str, Any]) -> None:
            with contextlib.suppress(OSError):  # whoever started it may have gone away
                report.send(json.dumps(document).encode() + b"\n")
                if "note" not in document:
                    report.close()

        try:
            yield tell
        except HoundsightError as error:
            self._failed(str(error))
            tell({"error": error.document()})
            raise
        except Exception as error:
            self._failed(f"{type(error).__name__}: {error}")
            tell({"error": JobError(f"{type(error).__name__}: {error}", "The traceback is in its log.").document()})
            raise

    async def _until_ending(self, work: Any) -> None:
        """Do the work, unless this process is asked to end first."""
        doing, ending = asyncio.ensure_future(work), asyncio.ensure_future(self.ending.wait())
        await asyncio.wait({doing, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if not doing.done():
            doing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await doing

    async def _create(self, tell: Any) -> None:
        await self.births.warm()  # beside the model's preparation: both import torch, each for itself
        for variant in self.spec.variants:
            tell({"note": f"Preparing {variant.model} for {variant.name}."})
            group = await self.add(variant, weight=variant.weight)
            rows = ", ".join(f"{key} {value}" for key, value in group.about.items())
            tell({"note": f"{variant.name}: {len(group.ready)} instances are ready ({rows})."})
            if group.problem:
                tell({"note": f"Every request will be answered with 500. {group.problem}"})
        self.phase(None)

    def _failed(self, reason: str) -> None:
        self._phase, self.last = "Failed", reason
        self._save()

    # ------------------------------------------------------------------------------------- instances

    async def add(self, variant: Variant, *, weight: float) -> Group:
        """Prepare a model and start its instances; nothing is left of it where one cannot serve."""
        about = await revision.prepare(self.folder, variant, self.spec)
        group = Group(variant, self._start, self.changed, self._free, weight=weight, about=about)
        self.groups.append(group)
        try:
            await group.grow(variant.instances)
        except BaseException:
            self.groups.remove(group)
            self.forget(group)
            raise
        return group

    async def remove(self, group: Group) -> None:
        """Let the instances of a model finish, and delete it."""
        await group.shrink(0, self.grace)
        self.groups.remove(group)
        self.forget(group)
        self.changed()

    def forget(self, group: Group) -> None:
        """Delete the files of a model that nobody serves any more."""
        remove_tree(self.folder.models / group.key)

    async def _start(self, group: Group, number: int) -> Child:
        private = f"{self.folder.sockets.name}/{number}.sock"
        Path(private).unlink(missing_ok=True)
        arguments = [
            *("--name", self.folder.name, "--variant", group.variant.name),
            *("--settings", str(revision.settings_file(self.folder, group.key))),
            *("--listen", f"fd:{self.listener.fileno()}", "--listen", f"unix:{private}", "--slot", str(number)),
        ]
        child = await self.births.child(arguments, [self.listener.fileno()])
        child.tell(self._routes(group))
        return child

    def _free(self) -> int:
        taken = {slot.number for group in self.groups for slot in group.slots}
        return next(number for number in range(len(taken) + 1) if number not in taken)

    @property
    def grace(self) -> float:
        """Seconds that an instance has to finish."""
        return self.spec.limits.drain_seconds + MARGIN_SECONDS

    # ------------------------------------------------------------------------------------ what is so

    def phase(self, phase: EndpointState | None) -> None:
        """Say what is being done to the endpoint; None where nothing is."""
        self._phase = phase
        self._publish()

    def changed(self) -> None:
        """Something is not as it was: tell the instances and write it down, once for all changes of this moment."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._publish)

    def _publish(self) -> None:
        self._due = False
        for group in self.groups:
            group.tell(self._routes(group))
        counters.sweep(self.folder.metrics, {slot.child.pid for g in self.groups for slot in g.slots if slot.child})
        self._save()

    def _routes(self, group: Group) -> dict[str, Any]:
        """The table of variants; empty where there is but one model, so that nothing is passed on."""
        table = {
            each.key: {
                "variant": each.variant.name,
                "weight": each.weight,
                "peers": [f"{self.folder.sockets.name}/{slot.number}.sock" for slot in each.ready],
            }
            for each in self.groups
        }
        names = sorted({each.variant.name for each in self.groups} | {group.variant.name})
        return {"do": "routes", "me": group.key, "variants": names, "table": table if len(table) > 1 else {}}

    @property
    def state(self) -> EndpointState:
        """Creating, InService, Updating, RollingBack, Deleting or Failed."""
        if self._phase is not None:
            return self._phase
        return "Failed" if all(slot.crashes >= CRASHES for each in self.groups for slot in each.slots) else "InService"

    def _reason(self) -> str:
        down = [slot for group in self.groups for slot in group.slots if slot.state == "waiting"]
        if self._phase is None and down:
            count = sum(len(group.slots) for group in self.groups)
            return f"{len(down)} of {count} instances are being started again: {down[0].reason}"
        return self.last

    def _save(self) -> None:
        state = self.state
        changed = self._status.changed if state == self._status.state else time.time()
        self._status = self._status.model_copy(
            update={
                "state": state,
                "reason": self._reason(),
                "changed": changed,
                "pid": os.getpid(),
                "pid_started": process.started(os.getpid()),
                "helpers": self.births.processes(),
                "instances": tuple(each for group in self.groups for each in group.statuses()),
            }
        )
        try:
            write_json(self.folder.status, self._status)
        except HoundsightError as error:  # a full disk must not end an endpoint that answers
            log.warning("The endpoint's status could not be written down: %s", error)

    def keep(self, spec: EndpointSpec) -> None:
        """Take over what the endpoint is from now on."""
        self.spec = spec
        write_json(self.folder.spec, spec)
        self.changed()

    def describe(self) -> dict[str, Any]:
        """Everything there is to know: what it is, how it stands, what its instances do."""
        rows = {row["pid"]: row for row in children.load([s.child for g in self.groups for s in g.slots if s.child])}
        statuses = [each.model_dump() for group in self.groups for each in group.statuses()]
        return {
            "state": self.state,
            "reason": self._reason(),
            "variants": [
                {
                    **group.variant.model_dump(exclude={"staged"}),
                    "share": self._share(group),
                    "ready": len(group.ready),
                    "problem": group.problem,
                    **group.about,
                }
                for group in self.groups
            ],
            "instances": [{**each, **rows.get(each["pid"], {})} for each in statuses],
        }

    def _share(self, group: Group) -> float:
        return group.weight / (sum(each.weight for each in self.groups) or 1.0)

    # ---------------------------------------------------------------------------------------- orders

    async def handle(self, order: dict[str, Any], tell: control.Tell) -> dict[str, Any]:
        """Carry out one order; raises `RequestError` for what cannot be done now."""
        match order.get("do"):
            case "describe":
                return self.describe()
            case "delete":
                self.ending.set()
                return {}
            case "update":
                if self._busy.locked() or self._phase is not None:
                    raise RequestError(
                        f"The endpoint '{self.folder.name}' is {self.state}.",
                        f"Wait until `houndsight describe {self.folder.name}` shows InService.",
                    )
                async with self._busy:
                    return await rollout.update(self, rollout.Change.create(**order["change"]), tell)
            case other:
                raise RequestError(f"There is no order {other!r}.")


def main() -> None:
    """Serve the endpoint of the given folder until it is to end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--listener", type=int, required=True)
    parser.add_argument("--report", type=int, required=True)
    given = parser.parse_args()
    folder = EndpointFolder(given.folder)
    os.chdir(folder.path)
    listener, report = socket.socket(fileno=given.listener), socket.socket(fileno=given.report)
    report.set_inheritable(False)
    listener.set_inheritable(False)
    try:
        asyncio.run(_serve(folder, listener, report))
    except HoundsightError as error:
        log.critical("The endpoint has failed: %s", error)
        sys.exit(error.exit_code)


async def _serve(folder: EndpointFolder, listener: socket.socket, report: socket.socket) -> None:
    await Supervisor(folder, listener).run(report)


if __name__ == "__main__":
    main()
