"""Connections to a coordinator: of workers that go away without a word, and of what is no worker."""

import queue
import socket
import threading
from multiprocessing.connection import Client

import pytest

from sq.synth.connections import WorkerConnections


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.0\r\n\r\n", b"", b"\0\0\0\x08#WELCOME", b"\0\0\0\x20" + bytes(32)])
@pytest.mark.parametrize("stays", [True, False])
def test_whatever_else_connects_keeps_no_worker_out(sent, stays):
    connections = WorkerConnections(("127.0.0.1", 0))
    with socket.create_connection(connections.address) as stray:
        stray.sendall(sent)
        if not stays:
            stray.close()
        worker = threading.Thread(target=lambda: arrive(connections), daemon=True)
        worker.start()
        number, link = connections.arrived.get(timeout=5)
        assert (number, link.recv()) == (3, "a message")
    worker.join()
    with pytest.raises(queue.Empty):
        connections.arrived.get_nowait()
    connections.close()


def arrive(connections):
    with Client(connections.address, authkey=connections.key) as link:
        link.send((3, 1))
        link.send("a message")
