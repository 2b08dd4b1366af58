"""The page of `sq show --open`, for one person on this machine: 127.0.0.1 alone, and nothing without the token."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sq.core.errors import SqError
from sq.report.samples import Event
from sq.report.show import RESTRICTED, measured, page, places_of, read_labels, write_label

LONGEST = 10_000
"""Bytes of a label that is sent."""


class ShowServer(ThreadingHTTPServer):
    """Gives the page, and keeps the labels that it sends."""

    daemon_threads, request_queue_size = True, 64

    def __init__(self, directory: Path, events: Sequence[Event], *, restricted: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.restricted = restricted
        self.directory, self.events, self.token = directory, list(events), secrets.token_urlsafe(24)
        self.places = places_of(directory, self.events)
        self.writing = threading.Lock()  # a label is added to those that are read: one at a time

    @property
    def address(self) -> str:
        """Where a browser finds it, token and all."""
        return f"http://127.0.0.1:{self.server_port}/?token={self.token}"


class _Handler(BaseHTTPRequestHandler):
    server: ShowServer

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path != "/" or not self._is_ours(parse_qs(url.query).get("token", [""])[0]):
            return self.send_error(403)
        nonce = secrets.token_urlsafe(16)
        body = page(
            self.server.directory, self.server.events, nonce=nonce, token=self.server.token,
            restricted=self.server.restricted,
        )  # fmt: skip
        policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; connect-src 'self'"
        self._answer(body, "text/html; charset=utf-8", {"Content-Security-Policy": policy})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if self.path != "/label" or length > LONGEST or not self._is_ours(self.headers.get("X-Token", "")):
            return self.send_error(403)
        try:
            given: dict[str, Any] = json.loads(self.rfile.read(length))
            key, label, note = (str(given[name]) for name in ("id", "label", "note"))
            if key not in self.server.places:
                return self.send_error(404)
            with self.server.writing:
                chosen = self.server.restricted or given.get("chosen") is True
                write_label(self.server.places[key], key, label, note, chosen=chosen)
        except (ValueError, KeyError, TypeError, SqError):
            return self.send_error(400)
        labels = read_labels(self.server.directory)
        self._answer(RESTRICTED if self.server.restricted else measured(self.server.events, labels), "text/plain")

    def log_message(self, format: str, *args: Any) -> None:
        """The token is in what would be logged."""

    def _is_ours(self, token: str) -> bool:
        """Whether it has the token, and asks this very address: no other site's page may be made to."""
        hosts = {f"{name}:{self.server.server_port}" for name in ("127.0.0.1", "localhost")}
        return secrets.compare_digest(token.encode(), self.server.token.encode()) and self.headers.get("Host") in hosts

    def _answer(self, body: str, kind: str, more: dict[str, str] | None = None) -> None:
        data = body.encode("utf-8", "replace")
        self.send_response(200)
        headers = {"Content-Type": kind, "Content-Length": str(len(data)), "Referrer-Policy": "no-referrer"}
        for name, value in {**headers, "Cache-Control": "no-store", **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
