"""Near-duplicates: ours beside datasketch, end to end, on generated questions with planted near-copies.

    python benchmarks/duplicates.py make FILE --count 1000000 [--data DIR]   # the questions
    python benchmarks/duplicates.py ours FILE [--processes 2]                # processor seconds, memory, recall
    python benchmarks/duplicates.py datasketch FILE                          # the same of datasketch, twice

With `--data`, a directory with math_train.jsonl and gsm8k_train.jsonl, texts are natural ones: a chain over pairs of
words of those problems, so that every shingle of three words is one that people write and the frequent ones are
frequent, with other numbers. Without it they are made-up words. Five share a first half, and five a second. A tenth
repeat an earlier question nearly: one word or two are others, or numbers. Of those, the copies of Jaccard similarity
0.8 and above are what recall is of.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np

from sq.synth.filters.duplicates import BATCH, DuplicateIndex, DuplicatesFilter
from sq.synth.filters.minhash import MinHash, jaccard
from sq.synth.filters.words import words_of

WORDS = [
    a + b + c for a in "bcdfghklmnprstvwz" for b in "aeiou" for c in ("", "n", "rt", "ll", "st", "mo", "ka", "tri")
]
COPIES = 0.1
BLOCK = 50_000
REUSE = 5  # texts that share a first half, and a second
WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
Texts = Callable[[np.random.Generator, int], list[list[str]]]


def made_up(rng: np.random.Generator, count: int) -> list[list[str]]:
    """Texts of about 45 words that nobody says."""
    return [[WORDS[i] for i in rng.integers(len(WORDS), size=length)] for length in rng.integers(34, 57, count)]


@lru_cache
def natural(data: Path) -> Texts:
    """Texts of 30 to 60 words, each of which follows the two before it in some problem of the data."""
    problems = [
        json.loads(line)[key].split()
        for name, key in (("math_train.jsonl", "problem"), ("gsm8k_train.jsonl", "question"))
        for line in (data / name).open()
    ]
    # place i of all problems, one after the other: the word there, and the pair of words that ends there
    words = [word for problem in problems for word in problem]
    first = np.cumsum([0, *map(len, problems[:-1])]) + 1
    pairs = {pair: i for i, pair in enumerate(dict.fromkeys(itertools.pairwise(words)))}
    pair = np.array([-1, *(pairs[p] for p in itertools.pairwise(words))])
    last = np.zeros(len(words), dtype=bool)
    last[[*(first[1:] - 2), len(words) - 1]] = True  # after the last word another problem begins
    order = np.argsort(pair, kind="stable")
    begin = np.searchsorted(pair[order], np.arange(len(pairs)))
    count_of = np.bincount(pair[1:], minlength=len(pairs))

    def texts(rng: np.random.Generator, count: int) -> list[list[str]]:
        at = rng.choice(first, count)
        steps = [at - 1, at]
        for _ in range(58):
            same = pair[at]
            at = order[begin[same] + (rng.random(count) * count_of[same]).astype(np.int64)]
            at = np.where(last[at], rng.choice(first, count) - 1, at + 1)
            at = np.where(pair[at] < 0, at + 1, at)
            steps.append(at)
        rows = zip(np.array(steps).T.tolist(), rng.integers(30, 61, count).tolist(), strict=True)
        lines = "\n".join(" ".join([words[i] for i in row[:length]]) for row, length in rows)
        numbers = iter(rng.integers(2, 1000, len(lines)).tolist())
        return [line.split(" ") for line in re.sub(r"\d+", lambda _: str(next(numbers)), lines).split("\n")]

    return texts


def write_block(path: Path, block: int, count: int, data: Path | None) -> None:
    """Lines of an id, whether it repeats an earlier text of the block to 0.8, and the text."""
    rng, size = np.random.default_rng(block), min(BLOCK, count - block * BLOCK)
    base = (natural(data) if data else made_up)(rng, size // REUSE + 1)
    halves = [iter(rng.integers(len(base), size=size).tolist()) for _ in range(2)]
    texts = [front[: len(front) // 2] + back[len(back) // 2 :]
             for front, back in zip(*(map(base.__getitem__, half) for half in halves), strict=True)]  # fmt: skip
    kinds, minhash = ["new"] * size, MinHash()
    copied = rng.random(size) < COPIES
    copied[0] = False
    copies, new = np.flatnonzero(copied).tolist(), np.flatnonzero(~copied)
    origins = [int(new[rng.integers(np.searchsorted(new, i))]) for i in copies]
    for i, origin in zip(copies, origins, strict=True):
        texts[i] = list(texts[origin])
        for place in rng.integers(len(texts[i]), size=rng.integers(1, 3)):
            texts[i][place] = str(rng.integers(2, 1000)) if rng.random() < 0.5 else WORDS[rng.integers(len(WORDS))]
    pairs = minhash.shingles([words_of(" ".join(texts[i])) for both in zip(copies, origins, strict=True) for i in both])
    for i, one, other in zip(copies, pairs[::2], pairs[1::2], strict=True):
        kinds[i] = "alike" if jaccard(one, other) >= 0.8 else "less"
    with open(path, "w") as file:
        for i, (kind, words) in enumerate(zip(kinds, texts, strict=True), block * BLOCK):
            file.write(f"{i}\t{kind}\t{' '.join(words)}\n")


def make(path: Path, count: int, data: Path | None) -> None:
    """Write the questions, in two processes."""
    blocks = range(-(-count // BLOCK))
    paths = [path.with_name(f"{path.name}.{block}") for block in blocks]
    with ProcessPoolExecutor(2) as pool:
        n = len(paths)
        list(pool.map(write_block, paths, blocks, [count] * n, [data] * n))
    with open(path, "wb") as whole:
        for part in paths:
            whole.write(part.read_bytes())
            part.unlink()


def read(path: Path) -> Iterator[tuple[str, str, str]]:
    """Id, kind and text of each question."""
    with open(path) as file:
        for line in file:
            name, kind, text = line.rstrip("\n").split("\t")
            yield name, kind, text


def ours(path: Path, processes: int) -> Iterator[bool]:
    """Of each question, whether it repeats another: nothing but a block is in memory beside the index."""
    index = DuplicateIndex(DuplicatesFilter(processes=processes))
    rows = ((name, text) for name, _, text in read(path))
    blocks = iter(lambda: list(itertools.islice(rows, BATCH)), [])
    for block, signatures in index.signer.sign_blocks(blocks, lambda block: [text for _, text in block]):
        yield from (hit is not None for hit in index.find([name for name, _ in block], signatures))


def datasketch(path: Path, weights: tuple[float, float]) -> Iterator[bool]:
    """The same with its MinHashLSH as its documentation shows it, 128 permutations, threshold 0.8."""
    import datasketch as ds

    lsh = ds.MinHashLSH(threshold=0.8, num_perm=128, weights=weights)
    for name, _, text in read(path):
        words = words_of(text)
        minhash = ds.MinHash(num_perm=128)
        minhash.update_batch([" ".join(words[i : i + 3]).encode() for i in range(len(words) - 2)])
        hit = bool(lsh.query(minhash))
        if not hit:
            lsh.insert(name, minhash)
        yield hit


def measure(label: str, hits: Iterator[bool], path: Path) -> None:
    """Read it to the end and print what it took, of all processes, and what it found."""
    before, begun = used(), time.monotonic()
    found = Counter(itertools.starmap(lambda hit, row: (row[1], hit), zip(hits, read(path), strict=True)))
    cpu, wall, count = used() - before, time.monotonic() - begun, found.total()
    alike = found["alike", True] + found["alike", False]
    own, child = (resource.getrusage(who).ru_maxrss / 1024 for who in WHO)
    print(
        f"{label:<17} {count:,} questions: {count / cpu:,.0f} per CPU s, {cpu:.1f} CPU s, {wall:.1f} s | "
        f"recall at Jaccard 0.8 and above {found['alike', True] / max(alike, 1):.2%} of {alike:,} | "
        f"{found['new', True]:,} others removed | peak {own:,.0f} MB, largest child {child:,.0f} MB",
        flush=True,
    )


def used() -> float:
    """Processor seconds of this process and its children that have ended."""
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, WHO))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "ours", "datasketch"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--processes", type=int, default=1, help="that make signatures; one: the index's own")
    asked = parser.parse_args()
    if asked.what == "make":
        make(asked.file, asked.count, asked.data)
    elif asked.what == "ours":
        measure("ours", ours(asked.file, asked.processes), asked.file)
    else:
        measure("datasketch", datasketch(asked.file, (0.5, 0.5)), asked.file)
        measure("datasketch-recall", datasketch(asked.file, (0.1, 0.9)), asked.file)


if __name__ == "__main__":
    main()
