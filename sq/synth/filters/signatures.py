"""What the duplicates filter compares questions by: hashes of the whole text, of its bands and of its shingles.

They are most of the filter's time and depend on one question alone, so processes of this machine make them, a block
each, and they come in the order of the blocks. A process ends with the one that started it, however that ends.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import queue
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sq.core.errors import SqError
from sq.core.provenance import hardware
from sq.synth.filters.base import FilterItem
from sq.synth.filters.minhash import Hashes, MinHash, ShortHashes
from sq.synth.filters.words import words_of

BATCH = 4096
PROCESSES = 4
"""More than these wait for the one process that takes the signatures."""
Block = TypeVar("Block")
Row = TypeVar("Row")


@dataclass(frozen=True, kw_only=True, slots=True)
class Signatures:
    """Of a block of texts. Without near-duplicates there are no bands and no shingles."""

    exact: Hashes
    bands: NDArray[np.uint64]
    """[text, band]"""
    shingles: ShortHashes
    """The upper half of each hash, enough to compare two texts by; of all texts, one after the other."""
    ends: NDArray[np.int64]

    def shingles_of(self, i: int) -> ShortHashes:
        """Those of text `i`, sorted."""
        return self.shingles[self.ends[i - 1] if i else 0 : self.ends[i]]


class Signer:
    """Makes signatures.

    Args:
        minhash: None where exact copies alone are looked for.
        processes: that make them, where there is more than a block.
    """

    def __init__(self, minhash: MinHash | None, processes: int = 1) -> None:
        self._minhash, self._processes = minhash, processes

    def sign(self, texts: Sequence[str]) -> Signatures:
        """The signatures of some texts, made here."""
        words = [words_of(text) for text in texts]
        if self._minhash is None or not texts:
            none, ends = np.zeros((len(texts), 0), dtype=np.uint64), np.zeros(len(texts), dtype=np.int64)
            return Signatures(exact=_exact(words), bands=none, shingles=np.zeros(0, dtype=np.uint32), ends=ends)
        shingles = self._minhash.shingles(words)
        return Signatures(
            exact=_exact(words),
            bands=self._minhash.keys(shingles),
            shingles=(np.concatenate(shingles) >> np.uint64(32)).astype(np.uint32),
            ends=np.cumsum([len(one) for one in shingles]),
        )

    def sign_blocks(
        self, blocks: Iterator[Block], texts_of: Callable[[Block], Sequence[str]]
    ) -> Iterator[tuple[Block, Signatures]]:
        """Each block with its signatures, in order. One block alone starts no process."""
        for block in itertools.islice(blocks, 1 if self._processes > 1 else None):
            yield block, self.sign(texts_of(block))
        if (second := next(blocks, None)) is None:
            return
        processes = [_Process(self) for _ in range(self._processes)]
        idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        for process in processes:
            idle.put(process)

        def sign(texts: Sequence[str]) -> Signatures:
            process = idle.get()
            try:
                return process.sign(texts)
            finally:
                idle.put(process)

        threads = ThreadPoolExecutor(len(processes), thread_name_prefix="signatures")
        waiting: deque[tuple[Block, Future[Signatures]]] = deque()
        try:
            for block in itertools.chain([second], blocks):
                waiting.append((block, threads.submit(sign, texts_of(block))))
                if len(waiting) > len(processes):
                    done, signatures = waiting.popleft()
                    yield done, signatures.result()
            for done, signatures in waiting:
                yield done, signatures.result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.end()


class _Process:
    def __init__(self, signer: Signer) -> None:
        self._link, far = Pipe()
        with far:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sq.synth.filters.signatures", str(far.fileno())],
                pass_fds=[far.fileno()],
                env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3]), "OMP_NUM_THREADS": "1"},
            )
        self._link.send(signer)

    def sign(self, texts: Sequence[str]) -> Signatures:
        try:
            self._link.send(texts)
            signatures: Signatures = self._link.recv()
        except (EOFError, OSError) as error:
            raise SqError(
                f"a process that makes signatures for duplicates has ended with exit code {self._process.wait()}. "
                "The same command goes on; where memory is short, give filters.duplicates.processes=1"
            ) from error
        return signatures

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._link.close()


def blocks_of(rows: Iterator[Row], size: int = BATCH) -> Iterator[list[Row]]:
    """The rows by so many."""
    while block := list(itertools.islice(rows, size)):
        yield block


def open_questions(cases: list[FilterItem]) -> list[str]:
    """The texts of those cases that no filter has removed."""
    return [case.question for case in cases if case.reason is None]


def signing_processes(wanted: int | None) -> int:
    """How many processes make signatures."""
    return wanted or min(PROCESSES, int(hardware()["cores"]))


def _exact(texts: list[list[str]]) -> Hashes:
    digests = (hashlib.blake2b(" ".join(words).encode("utf-8", "surrogatepass"), digest_size=8) for words in texts)
    return np.frombuffer(b"".join(digest.digest() for digest in digests), dtype=np.uint64)


def _serve(link: Connection) -> None:
    """Sign what comes, until whoever asks is gone."""
    try:
        signer: Signer = link.recv()
        while True:
            link.send(signer.sign(link.recv()))
    except (EOFError, OSError, KeyboardInterrupt):
        return


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
