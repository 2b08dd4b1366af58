"""What tests of sources read: good rows, files, and a source read to its end."""

import json

from sq.core.rows import QUESTION
from sq.data.sources import SourceConfig, read_source

GOOD = b'{"question": "What is 2 + 2?"}'
GOODS = [{"question": f"What is {i} + 2?", "answer": str(i + 2)} for i in range(200)]
LINES = [json.dumps(row).encode() for row in GOODS]


def read(path, rejects=None, need=QUESTION, **settings):
    return list(read_source(SourceConfig(input=str(path), **settings), need, rejects))


def put(directory, data, name="a.jsonl"):
    path = directory / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path
