"""How the instances of an endpoint share one listening socket fairly: a board of who is how busy, and whose turn it is.

A socket that several processes wait on wakes whichever is fastest, and keep-alive connections stay where they were
accepted: without the board eight callers may all end at one instance of three.
"""

import asyncio
import mmap
import os
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SLOTS = 256
_ENTRY = struct.Struct("<IIIIIIQQd")  # pid, accepting, active, connections, waiting, 0, requests, errors, when
_SIZE = 64
STALE_SECONDS = 3.0
"""An instance that has not written for so long is not waited for."""
TURNS, TURN_SECONDS = 3, 0.001
"""How often, and for how long, a connection is left to an instance that is less busy before it is taken anyway."""


class Board:
    """Shared memory with one entry an instance; a torn read costs one connection's fairness and no more."""

    def __init__(self, path: Path | None, slot: int) -> None:
        """`path` is a file that all instances of the endpoint share; None is a board of one's own."""
        if not 0 <= slot < SLOTS:
            raise ValueError(f"slot {slot} is not one of {SLOTS}")
        self._slot = slot
        self._pid = os.getpid()
        self.accepting = self.active = self.connections = self.waiting = 0
        self.requests = self.errors = 0
        if path is None:
            self._map = mmap.mmap(-1, SLOTS * _SIZE)
        else:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(file, SLOTS * _SIZE)
                self._map = mmap.mmap(file, SLOTS * _SIZE)
            finally:
                os.close(file)
        self.write()

    def write(self) -> None:
        """Show how busy this instance is."""
        now = time.monotonic()
        _ENTRY.pack_into(
            self._map, self._slot * _SIZE, self._pid, self.accepting, self.active, self.connections, self.waiting, 0,
            self.requests, self.errors, now,
        )  # fmt: skip

    def clear(self) -> None:
        """Leave the board."""
        _ENTRY.pack_into(self._map, self._slot * _SIZE, 0, 0, 0, 0, 0, 0, 0, 0, 0.0)

    def somebody_is_freer(self) -> bool:
        """Whether another instance that accepts has less to do: fewer requests in progress, then fewer connections."""
        mine, now = (self.active, self.connections), time.monotonic()
        for slot in range(SLOTS):
            pid, accepting, active, connections, _, _, _, _, stamp = _ENTRY.unpack_from(self._map, slot * _SIZE)
            fresh = pid and accepting and slot != self._slot and now - stamp < STALE_SECONDS
            if fresh and (active, connections) < mine:
                return True
        return False

    def everybody(self) -> list[dict[str, Any]]:
        """What each living instance is doing."""
        now, rows = time.monotonic(), []
        for slot in range(SLOTS):
            pid, accepting, active, connections, waiting, _, requests, errors, stamp = _ENTRY.unpack_from(
                self._map, slot * _SIZE
            )
            if pid and now - stamp < STALE_SECONDS:
                rows.append({
                    "slot": slot, "pid": pid, "accepting": bool(accepting), "active": active,
                    "connections": connections, "waiting": waiting, "requests": requests, "errors": errors,
                })  # fmt: skip
        return rows

    def pids(self) -> list[int]:
        """The processes of the living instances."""
        return [row["pid"] for row in self.everybody()]


class Acceptor:
    """Takes connections off one listening socket, one at a time and not out of turn."""

    def __init__(
        self, listener: socket.socket, board: Board, most: int, made: Callable[[], asyncio.Protocol], *, fair: bool
    ) -> None:
        self._listener, self._board, self._most, self._made, self._fair = listener, board, most, made, fair
        self._loop = asyncio.get_running_loop()
        self._turns = 0
        self._later: asyncio.TimerHandle | None = None
        self._coming: set[asyncio.Task[Any]] = set()
        listener.setblocking(False)
        self._listen()

    def close(self) -> None:
        """Accept no more; what waits in the socket is left to the other instances."""
        if self._later is not None:
            self._later.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def _listen(self) -> None:
        self._later = None
        self._loop.add_reader(self._listener, self._readable)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._later = self._loop.call_later(seconds, self._listen)

    def _readable(self) -> None:
        if self._board.connections >= self._most:
            self._pause(0.05)
            return
        if self._fair and self._turns < TURNS and self._board.somebody_is_freer():
            self._turns += 1
            self._pause(TURN_SECONDS)
            return
        self._turns = 0
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:  # no file descriptor is left; the connection waits
            self._pause(0.1)
            return
        connection.setblocking(False)
        # Shown at once, not when the transport is made: the next connection may be looked at before that.
        self._board.connections += 1
        self._board.write()
        task = self._loop.create_task(self._connect(connection))
        self._coming.add(task)
        task.add_done_callback(self._coming.discard)

    async def _connect(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._made, connection)
        except OSError:
            connection.close()
            self._board.connections -= 1
