"""The arguments and variables that other programs see of a forked process; Linux only.

A fork keeps its parent's. `prctl(PR_SET_MM_MAP)` tells the kernel where they stand now; it needs no privilege, only
a kernel with CONFIG_CHECKPOINT_RESTORE, as distributions build theirs. By them `ps` shows a job's name, and the
processes that a script leaves behind are known.
"""

import ctypes
import mmap
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_MM, _PR_SET_MM_MAP = 35, 14  # <linux/prctl.h>
_FIELDS = {  # of /proc/self/stat, counted from one: proc_pid_stat(5)
    "start_code": 26,
    "end_code": 27,
    "start_data": 45,
    "end_data": 46,
    "start_brk": 47,
    "start_stack": 28,
}

_kept: list[mmap.mmap] = []  # the kernel reads it as long as this process lives


class _Map(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint64) for name in ("start_code", "end_code", "start_data", "end_data", "start_brk", "brk")),
        *((name, ctypes.c_uint64) for name in ("start_stack", "arg_start", "arg_end", "env_start", "env_end")),
        ("auxv", ctypes.c_void_p),
        ("auxv_size", ctypes.c_uint32),
        ("exe_fd", ctypes.c_int32),
    ]


def show(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Let this process be seen with these arguments and variables; False where the kernel does not have that."""
    words = b"".join(os.fsencode(each) + b"\0" for each in arguments)
    variables = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in environment.items())
    area = mmap.mmap(-1, len(words) + len(variables), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # it reads no shared one
    area.write(words + variables)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    fields = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    values = {name: int(fields[number - 3]) for name, number in _FIELDS.items()}
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sbrk.restype = ctypes.c_uint64
    words_end = start + len(words)
    asked = _Map(
        **values,
        brk=libc.sbrk(0),
        arg_start=start,
        arg_end=words_end,
        env_start=words_end,
        env_end=words_end + len(variables),
        auxv=None,
        auxv_size=0,
        exe_fd=-1,
    )
    done: int = libc.prctl(_PR_SET_MM, _PR_SET_MM_MAP, ctypes.byref(asked), ctypes.sizeof(asked), 0)
    if done == 0:
        _kept.append(area)
    return done == 0
