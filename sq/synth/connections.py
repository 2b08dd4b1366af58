"""How the workers of a stage connect to its coordinator, whoever does not have the key being turned away."""

from __future__ import annotations

import os
import queue
import secrets
import socket
import struct
import threading
import time
from multiprocessing import Pipe
from multiprocessing.connection import Client, Connection, Listener, answer_challenge, deliver_challenge
from typing import Any

HANDSHAKE_SECONDS = 30
"""Seconds that who connects has for each message of the handshake."""
MESSAGE_SECONDS = 60
"""Seconds without a byte in the middle of a worker's message: the coordinator reads, and waits, in one thread."""
KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 6, "TCP_USER_TIMEOUT": 120_000}
"""Two minutes without a sign of the other machine end a connection (the last is in milliseconds)."""


class WorkerConnections:
    """Accepts workers in a thread: each is put into `arrived` with its number and the time, and `wakeup` written."""

    def __init__(self, address: Any) -> None:
        self.key = secrets.token_bytes(32)
        self.wakeup, self._wakeup_writer = Pipe(duplex=False)
        self.arrived: queue.SimpleQueue[tuple[int, float, Connection]] = queue.SimpleQueue()
        self._listener = Listener(address, backlog=128)
        self._closed = False
        self.address = self._listener.address
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more."""
        self._closed = True
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                link = self._listener.accept()
            except OSError:  # it is closed, or this process has too many files open now
                time.sleep(0.1)
            else:
                threading.Thread(target=self._admit, args=(link,), daemon=True).start()

    def _admit(self, link: Connection) -> None:
        """Check the key, in a thread of its own: what is no worker may send anything, or nothing."""
        try:
            _limit_waiting(link, HANDSHAKE_SECONDS, HANDSHAKE_SECONDS)
            deliver_challenge(link, self.key)
            answer_challenge(link, self.key)
            number = link.recv()[0]
            _limit_waiting(link, MESSAGE_SECONDS, 0)
            _keep_alive(link)
        except Exception:  # somebody else, or a worker that has ended already
            return link.close()
        self.arrived.put((number, time.monotonic(), link))
        self._wakeup_writer.send_bytes(b".")


def connect(address: Any, key: bytes, number: int) -> Connection:
    """The connection of worker `number` to the coordinator at `address`."""
    link = Client(address, authkey=key)
    link.send((number, os.getpid()))
    _keep_alive(link)
    return link


def _keep_alive(link: Connection) -> None:
    """Have the system notice where the other machine is gone: without power, it closes no connection."""
    with socket.socket(fileno=os.dup(link.fileno())) as end:
        if end.family in (socket.AF_INET, socket.AF_INET6):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in KEEP_ALIVE.items():
                if option := getattr(socket, name, None):  # some systems have others
                    end.setsockopt(socket.IPPROTO_TCP, option, value)


def _limit_waiting(link: Connection, read: int, write: int) -> None:
    """Have a read and a write of a connection fail after so many seconds; 0: never."""
    with socket.socket(fileno=os.dup(link.fileno())) as end:
        for option, seconds in ((socket.SO_RCVTIMEO, read), (socket.SO_SNDTIMEO, write)):
            end.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", seconds, 0))
