"""A small OpenAI-compatible server on a thread, which misbehaves as it is told to."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter, defaultdict

from sq.engine.base import Request, Sampling
from sq.models.load import ModelConfig

KEY = "sk-veryprivate0123456789abcdef"
MODEL = ModelConfig(name="remote", path="some-model")


class Endpoint:
    """A server on a thread. `fault(name, attempt)` says what is wrong with an answer; by default nothing is.

    A prompt is known by its `name`, the text of its last message; `say(name, seed)` is what is answered to it.
    """

    def __init__(self):
        self.fault = lambda name, attempt: None
        self.say = lambda name, seed: f"{name} #{seed}"
        self.seen, self.bodies, self.times = Counter(), [], defaultdict(list)
        self.models = 200  # the status of GET /models; None: no answer
        self.served, self.connections, self.most, self.busy = Counter(), 0, 0, 0
        self.authorization, self.headers = set(), []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server = self._on_loop(asyncio.start_server(self._connection, "127.0.0.1", 0))
        self.port = self.server.sockets[0].getsockname()[1]

    def close(self):
        async def end():
            self.server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0.01)

        self._on_loop(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def stop_listening(self):
        """Refuse new connections, and drop those there are."""

        async def end():
            self.server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0.05)

        self._on_loop(end())

    def listen_again(self):
        self.server = self._on_loop(asyncio.start_server(self._connection, "127.0.0.1", self.port))

    def _on_loop(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    async def _connection(self, reader, writer):
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = [line.partition(": ") for line in head.decode().split("\r\n")[1:]]
                fields = {name.lower(): value for name, _, value in lines}
                if head.startswith(b"GET"):
                    await self._models(writer)
                    continue
                body = json.loads(await reader.readexactly(int(fields["content-length"])))
                self.authorization.add(fields.get("authorization"))
                self.headers.append(fields)
                self.busy += 1
                self.most = max(self.most, self.busy)
                try:
                    await self._answer(head.split()[1].decode(), body, reader, writer)
                finally:
                    self.busy -= 1
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.connections -= 1
            writer.close()

    async def _models(self, writer):
        while self.models is None:
            await asyncio.sleep(0.02)
        writer.write(f"HTTP/1.1 {self.models} X\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        await writer.drain()

    async def _answer(self, path, body, reader, writer):
        name = body["messages"][-1]["content"] if "messages" in body else str(body["prompt"])
        self.seen[name] += 1
        self.bodies.append((path, body))
        self.times[name].append(time.monotonic())
        fault = self.fault(name, self.seen[name])
        status, headers, text = 200, "", json.dumps(self._reply(body, name))
        if fault == "cut":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
            raise ConnectionError
        if fault == "hang":
            while not reader.at_eof():
                await asyncio.sleep(0.02)
            raise ConnectionError
        if isinstance(fault, float):
            await asyncio.sleep(fault)
        elif fault in MALFORMED:
            text = MALFORMED[fault]
        elif isinstance(fault, tuple):
            status, headers, text = fault
        if status == 200 and fault not in MALFORMED:
            self.served[name] += 1
        data = text.encode()
        kind = f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(f"HTTP/1.1 {status} X\r\n{headers}{kind}".encode() + data)

    def _reply(self, body, name):
        def choice(i):
            text = self.say(name, body["seed"] + i)
            where = {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
            return {"index": i, "finish_reason": "stop", **where}

        choices = [choice(i) for i in range(body["n"])]
        return {"choices": choices[::-1], "usage": {"prompt_tokens": 7, "completion_tokens": 5 * body["n"]}}


MALFORMED = {
    "malformed": '{"choices": [{"message": {"cont',
    "list": "[]",
    "empty": json.dumps({"choices": [], "usage": None}),
    "form": json.dumps({"choices": [{"text": None, "finish_reason": 3}, 7]}),
    "aborted": json.dumps({"choices": [{"message": {"content": "so"}, "finish_reason": "abort"}]}),
    "unended": json.dumps({"choices": [{"message": {"content": "so"}, "finish_reason": None}]}),
    "error": json.dumps({"error": {"message": "upstream is busy"}}),
    "infinite": '{"choices": [{"text": "x", "finish_reason": "stop"}], "usage": {"prompt_tokens": Infinity}}',
    "huge": '{"choices": [{"text": "x", "finish_reason": "stop"}], "usage": {"completion_tokens": 1e300}}',
    "deep": "[" * 100_000,
}


def error(status, message, headers="", **more):
    return status, headers, json.dumps({"error": {"message": message, **more}})


def ask(*names, **sampling):
    for name in names:
        message = ({"role": "user", "content": name},)
        yield Request(key=f"key of {name}", seed=10, messages=message, sampling=Sampling(**sampling))
