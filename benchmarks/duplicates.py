"""Near-duplicates: ours beside datasketch, end to end, on generated questions with planted near-copies.

python benchmarks/duplicates.py 20000          # speed and recall of both
python benchmarks/duplicates.py 1000000 ours   # how long, and how much memory, a million takes
"""

from __future__ import annotations

import random
import resource
import sys
import time
from collections.abc import Iterator

from sq.synth.filters.duplicates import BATCH, DuplicateIndex, DuplicatesFilter
from sq.synth.filters.minhash import MinHash, jaccard
from sq.synth.filters.words import words_of

WORDS = [
    a + b + c for a in "bcdfghklmnprstvwz" for b in "aeiou" for c in ("", "n", "rt", "ll", "st", "mo", "ka", "tri")
]
COPIES = 0.1


def questions(count: int) -> Iterator[tuple[str, str, str | None]]:
    """Id, text of about 45 words, and the id of the earlier text it nearly repeats (0.8 to 0.9 alike), if any."""
    rng = random.Random(0)
    kept: list[tuple[str, list[str]]] = []
    for i in range(count):
        if kept and rng.random() < COPIES:
            origin, words = kept[rng.randrange(len(kept))]
            words = list(words)
            words[rng.randrange(len(words))] = rng.choice(WORDS)
            yield str(i), " ".join(words), origin
            continue
        words = [rng.choice(WORDS) for _ in range(rng.randint(34, 56))]
        if len(kept) < 50_000:
            kept.append((str(i), words))
        yield str(i), " ".join(words), None


def ours(texts: list[tuple[str, str]]) -> set[str]:
    """The ids that are found to repeat another."""
    index = DuplicateIndex(DuplicatesFilter())
    found = set()
    for start in range(0, len(texts), BATCH):
        block = texts[start : start + BATCH]
        found |= {name for (name, _), hit in zip(block, index.find(block), strict=True) if hit is not None}
    return found


def datasketch(texts: list[tuple[str, str]], weights: tuple[float, float] = (0.5, 0.5)) -> set[str]:
    """The same with its MinHashLSH as its documentation shows it, 128 permutations, threshold 0.8."""
    import datasketch as ds

    lsh, found = ds.MinHashLSH(threshold=0.8, num_perm=128, weights=weights), set()
    for name, text in texts:
        words = words_of(text)
        minhash = ds.MinHash(num_perm=128)
        minhash.update_batch([" ".join(words[i : i + 3]).encode() for i in range(len(words) - 2)])
        if lsh.query(minhash):
            found.add(name)
        else:
            lsh.insert(name, minhash)
    return found


def recalling(texts: list[tuple[str, str]]) -> set[str]:
    """datasketch, told to weigh what it misses above what it wrongly finds."""
    return datasketch(texts, (0.1, 0.9))


def main(count: int, only: str | None) -> None:
    made = list(questions(count))
    texts = [(name, text) for name, text, _ in made]
    by_id = dict(texts)
    planted = [(name, origin) for name, _, origin in made if origin is not None]
    hasher = MinHash()
    alike = {n for n, o in planted if jaccard(*hasher.shingles([words_of(by_id[n]), words_of(by_id[o])])) >= 0.8}
    rates = {}
    for label, find in (("ours", ours), ("datasketch", datasketch), ("datasketch-recall", recalling)):
        if only not in (None, label):
            continue
        start, cpu = time.monotonic(), time.process_time()
        found = find(texts)
        cpu, wall = time.process_time() - cpu, time.monotonic() - start
        rates[label] = count / cpu
        recall = len(found & alike) / max(len(alike), 1)
        wrong = len(found - {name for name, _ in planted})
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{label:<17} {count:,} questions: {count / cpu:,.0f} per CPU s, {cpu:.1f} CPU s, {wall:.1f} s | "
            f"recall at Jaccard 0.8 and above {recall:.2%} of {len(alike):,} | {wrong} others removed | "
            f"peak {memory:,.0f} MB"
        )
    for label in rates.keys() - {"ours"} if "ours" in rates else ():
        print(f"ours / {label}: {rates['ours'] / rates[label]:.2f}x")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000, sys.argv[2] if len(sys.argv) > 2 else None)
