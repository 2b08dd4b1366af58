"""Where the workers of a stage connect to its coordinator, whoever does not have the key being turned away."""

from __future__ import annotations

import queue
import secrets
import threading
from multiprocessing import AuthenticationError, Pipe
from multiprocessing.connection import Connection, Listener
from typing import Any


class WorkerConnections:
    """Accepts workers in a thread: each is put into `arrived` with its number, and `wakeup` becomes readable."""

    def __init__(self, address: Any) -> None:
        self.key = secrets.token_bytes(32)
        self.wakeup, self._wakeup_writer = Pipe(duplex=False)
        self.arrived: queue.SimpleQueue[tuple[int, Connection]] = queue.SimpleQueue()
        self._listener = Listener(address, backlog=128, authkey=self.key)
        self.address = self._listener.address
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                link = self._listener.accept()
                self.arrived.put((link.recv()[0], link))
                self._wakeup_writer.send_bytes(b".")
            except (AuthenticationError, EOFError, ConnectionError):
                continue  # somebody else, or a worker that has ended already
            except OSError:
                return
