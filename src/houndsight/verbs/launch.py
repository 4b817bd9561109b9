"""Starting an endpoint: its port, its key, and the supervisor that outlives this process; below the verbs."""

import errno
import ipaddress
import logging
import os
import secrets
import socket
import subprocess
import sys
import time

from houndsight.backends import process
from houndsight.errors import JobError, RequestError, SpecError
from houndsight.folders import EndpointFolder
from houndsight.serving import control
from houndsight.serving.control import Tell
from houndsight.serving.endpoint import EndpointSpec
from houndsight.workspace import friendly_disk_errors

log = logging.getLogger("houndsight")

# -P keeps the folder in which the user stands off the import path: a random.py there is not Python's.
SUPERVISOR = (sys.executable, "-P", "-m", "houndsight.serving.supervisor")
BACKLOG = 1024
"""Connections that wait in the kernel while all instances are busy, or are being started again."""
START_PATIENCE = 600.0
"""Seconds without a word after which a starting supervisor is given up."""
END_MARGIN = 15.0
_started: dict[int, "subprocess.Popen[bytes]"] = {}  # supervisors of this process, until it has taken note of their end


def new_revision() -> str:
    """A name for the folder of a model, never used before."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def url_of(spec: EndpointSpec) -> str:
    """Where the endpoint answers; an address of this machine where it listens on all of them."""
    host = "127.0.0.1" if spec.host in ("0.0.0.0", "") else "[::1]" if spec.host == "::" else spec.host  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{spec.port}"


def listen(spec: EndpointSpec, api_key: str | None) -> socket.socket:
    """The listening socket; here, so that a port that is taken is known before anything is made."""
    try:
        family, *_, address = socket.getaddrinfo(spec.host, spec.port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise RequestError(
            f"'{spec.host}' is no address of this machine: {error.strerror}.", "Leave out --host."
        ) from None
    if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback and not api_key:
        raise SpecError(
            f"{spec.host} can be reached from other machines, and no key was given.",
            "Add --api-key KEY, or leave out --host.",
        )
    try:
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise RequestError(
                f"Port {spec.port} of {spec.host} is taken.", "Choose another --port, or leave it out for a free one."
            ) from None
        raise RequestError(f"Nothing can listen on {spec.host} port {spec.port}: {error.strerror}.") from None


def write_key(files: EndpointFolder, api_key: str | None) -> None:
    """Keep the key where its owner alone can read it; raises `SpecError` where no header can hold it."""
    if api_key is None:
        return
    if not api_key.strip() or not api_key.isascii() or not api_key.isprintable():
        raise SpecError("api_key: must be printable ASCII characters.")
    with friendly_disk_errors(files.path):
        descriptor = os.open(files.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(api_key)


def launch(files: EndpointFolder, listener: socket.socket, tell: Tell) -> None:
    """Start the supervisor and wait until the endpoint answers; raises why it does not."""
    ours, theirs = socket.socketpair()
    with ours, theirs, friendly_disk_errors(files.path), files.log.open("ab") as output:
        command = [*SUPERVISOR, str(files.path), "--listener", str(listener.fileno()), "--report", str(theirs.fileno())]
        try:
            supervisor = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=(listener.fileno(), theirs.fileno()),
            )
        except OSError as error:
            raise JobError(f"No process could be started: {error.strerror}.") from error
        _started[supervisor.pid] = supervisor
        theirs.close()
        ours.settimeout(START_PATIENCE)
        try:
            control.conclude(files, ours, tell)
        except BaseException:
            _end(supervisor)
            raise


def _end(supervisor: "subprocess.Popen[bytes]") -> None:
    """Return when the supervisor and what it started are gone."""
    supervisor.terminate()
    try:
        supervisor.wait(END_MARGIN)
    except subprocess.TimeoutExpired:
        process.kill_descendants(supervisor.pid)
        supervisor.kill()
        supervisor.wait()


def reap() -> None:
    """Take note of supervisors that have ended, so that they do not stay in the table of processes."""
    for pid in [pid for pid, each in _started.items() if each.poll() is not None]:
        del _started[pid]
