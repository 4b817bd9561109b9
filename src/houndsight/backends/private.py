"""Gives a program an /opt/ml of its own, in a mount namespace that ends with it; then becomes that program.

    python -I -S private.py FOLDER COMMAND...       FOLDER stands at /opt/ml for COMMAND, and for it alone

Below everything that runs other people's scripts. Started as a file and importing nothing of the house, so that it
costs 30 ms; the command has its process, its group and its streams. Nothing of the machine is changed: where it has no
/opt/ml, a small file system in memory stands over /opt in that namespace, with what /opt holds bound into it.
"""

import ctypes
import os
import sys
from functools import cache
from pathlib import Path

PLACE = Path("/opt/ml")
"""Where SageMaker's containers have their folders."""
_NEWNS, _NEWUSER = 0x00020000, 0x10000000
_NOSUID, _NODEV, _BIND, _REC, _SLAVE = 2, 4, 4096, 16384, 1 << 19
_PROBE = "--probe"


def prefix(folder: str | os.PathLike[str]) -> list[str]:
    """The words before a command that let it find `folder` at /opt/ml."""
    return [sys.executable, "-I", "-S", str(Path(__file__).absolute()), os.fspath(folder)]


@cache
def impossible() -> str:
    """Why this machine gives no program an /opt/ml of its own, or nothing where it does; tried once."""
    if sys.platform != "linux":
        return "only Linux has mount namespaces"
    import subprocess  # not when it is the launcher: that costs as much again

    command = [*prefix(PLACE.parent), _PROBE]
    tried = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return "" if tried.returncode == 0 else (tried.stderr.strip() or f"exit code {tried.returncode}")


def hidden(paths: dict[str, str]) -> list[str]:
    """Names of those paths (name -> path) that an /opt/ml of its own would hide from the program."""
    places = {PLACE, PLACE.resolve()}
    return [name for name, path in paths.items() if places & {*Path(path).resolve().parents, Path(path).resolve()}]


class _Kernel:
    """The two system calls, with their errors as `OSError`."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def _done(self, result: int, what: str) -> None:
        if result != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"{what}: {os.strerror(code)}")

    def unshare(self, flags: int) -> None:
        """Leave the parent's namespaces."""
        self._done(self._libc.unshare(flags), "a namespace of its own")

    def mount(self, source: str, target: Path, kind: str | None, flags: int, data: str | None = None) -> None:
        """Stand one thing at the place of another, by the system call."""
        words = (os.fsencode(source), bytes(target), kind and kind.encode(), ctypes.c_ulong(flags))
        self._done(self._libc.mount(*words, data and data.encode()), f"mounting at {target}")


def _alone(kernel: _Kernel) -> None:
    """A mount namespace: by right, else in a user namespace in which everybody is who they were."""
    user, group = os.geteuid(), os.getegid()
    try:
        kernel.unshare(_NEWNS)
    except PermissionError:
        kernel.unshare(_NEWUSER | _NEWNS)
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    kernel.mount("none", Path("/"), None, _REC | _SLAVE)  # what is mounted from now on stays here


def _make_place(kernel: _Kernel) -> None:
    """Stand a file system of our own over /opt that holds what /opt held, and an empty folder for /opt/ml."""
    opt = PLACE.parent
    if not opt.is_dir():
        raise OSError(0, f"there is no {opt} to stand it in")
    old = os.open(opt, os.O_PATH | os.O_DIRECTORY)
    names = os.listdir(opt)
    kernel.mount("tmpfs", opt, "tmpfs", _NOSUID | _NODEV, "mode=0755,size=1m")
    for name in names:
        source, target = Path(f"/proc/self/fd/{old}/{name}"), opt / name
        if source.is_symlink():
            target.symlink_to(source.readlink())
            continue
        if source.is_dir():
            target.mkdir()
        else:
            target.touch(0o600)
        kernel.mount(str(source), target, None, _BIND | _REC)
    PLACE.mkdir()
    os.close(old)


def main(folder: str, command: list[str]) -> None:
    """Bind `folder` at /opt/ml and become the command; with `--probe` only look whether that can be done."""
    kernel = _Kernel()
    try:
        _alone(kernel)
        if not PLACE.is_dir():
            _make_place(kernel)
        kernel.mount(folder, PLACE, None, _BIND | _REC)
        os.chdir(Path.cwd())  # the same folder as the mounts have it now
    except OSError as error:
        sys.exit(error.strerror or str(error))
    if command == [_PROBE]:
        return
    try:
        os.execvpe(command[0], command, os.environ)  # noqa: S606 - no shell takes part
    except OSError as error:
        sys.exit(f"The script could not be started: {error}.")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
