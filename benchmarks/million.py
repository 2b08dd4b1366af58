"""Directories of a million rows, as a run leaves them, and what it takes to ask about them.

python benchmarks/million.py make DIR --count 1000000    # questions, filter, answers, select; natural texts, real parts
python benchmarks/million.py why DIR                     # sq why: the index made, then used
python benchmarks/million.py report DIR                  # sq report: seconds and peak memory

Questions are the arithmetic domain's with other numbers, four fifths pass the filter, each has one answer, nineteen of
twenty are selected. The parts are written as the ledger writes them.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow as pa

from sq.core.codec import Codec
from sq.core.ledger import read_rows
from sq.core.manifest import Manifest, Part, write_manifest
from sq.core.parts import write_part
from sq.core.rejects import Reject
from sq.core.rows import CANDIDATE, EXAMPLE, JUDGED, QUESTION, fit_row
from sq.domains.arithmetic import ArithmeticDomain

PART = 1024
STAGES: dict[str, pa.Schema] = {"questions": QUESTION, "filter": JUDGED, "answers": CANDIDATE, "select": EXAMPLE}
REASONS = {"filter": ("duplicate", "not_solvable", "language", "cut-off"), "select": ("no_answer", "cut_off")}
PROBLEMS = list(ArithmeticDomain().seeds(4000, 0, "train"))


def part_of_rows(index: int, count: int) -> Iterator[dict[str, Any]]:
    """The questions of a part, with all that later stages add to them."""
    rng = random.Random(index)
    for number in range(index * PART, min(count, (index + 1) * PART)):
        base = rng.choice(PROBLEMS)
        question = re.sub(r"\d+", lambda m: str(rng.randint(2, 99)), base["question"])
        name = digest("question", number)
        yield {
            "id": name, "run": "benchmark", "model": "canned", "seed": number, "parents": [], "question": question,
            "domain": "arithmetic", "generator": "canned", "index": number, "question_tokens": len(question.split()),
            "question_finish_reason": "stop", "question_prompt_tokens": 4, "language": "en", "language_score": 0.98,
            "solvable": "yes", "solvable_yes": 1, "solvable_votes": 1, "difficulty": rng.random(),
            "question_id": name, "response": base["solution"] * 3, "response_index": 0, "response_model": "canned",
            "response_answer": base["answer"], "response_finish_reason": "stop", "response_tokens": 150,
            "reward": rng.random(), "query": question, "selected_by": "reward", "candidates": 1, "rank": 0,
        }  # fmt: skip


def digest(kind: str, number: int) -> str:
    return blake2b(f"{kind} {number}".encode(), digest_size=16).hexdigest()


def make_part(directory: Path, stage: str, index: int, count: int, manifest: Manifest) -> Part:
    """Write one part of a stage."""
    codec = Codec(STAGES[stage])
    results: dict[str, Any] = {}
    for row in part_of_rows(index, count):
        number, key = row["seed"], row["id"]
        if stage in ("answers", "select"):
            row |= {"id": digest("answer", number), "parents": [key]}
            if number % 5 == 0:
                continue
        gone = number % 5 == 0 if stage == "filter" else stage == "select" and number % 20 == 1
        row = fit_row({name: row.get(name) for name in STAGES[stage].names}, STAGES[stage])
        if gone:
            reason = REASONS[stage][number // 20 % len(REASONS[stage])]
            results[key] = ([], [Reject(row=row, reason=reason, detail="benchmark").values(key)])
        else:
            results[key] = ([codec.values(row, key)], [])
    return write_part(directory, index, list(results), results, codec, manifest)


def make(where: Path, count: int) -> None:
    """Write all stages, in two processes."""
    read: dict[str, str] = {}
    for stage, schema in STAGES.items():
        directory = where / stage
        directory.mkdir(parents=True, exist_ok=True)
        config = {"stage.name": stage, "filters": ["language", "duplicates", "difficulty"]}
        manifest = Manifest(schema=Codec(schema).text, config=config, inputs=read, part_size=PART)
        indexes = range(-(-count // PART))
        with ProcessPoolExecutor(2) as pool:
            jobs = [pool.submit(make_part, directory, stage, index, count, manifest) for index in indexes]
            parts = {job.result().index: job.result() for job in jobs}
        manifest = replace(manifest, parts=parts, finished=True)
        write_manifest(directory, manifest)
        read = {"input": manifest.digest}
        print(f"{stage}: {manifest.rows:,} rows, {manifest.rejects:,} rejects", flush=True)


def command(*words: str) -> None:
    """Run `sq` and print seconds, processor seconds and peak memory."""
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "sq.cli", *words], capture_output=True, text=True, check=False)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"sq {' '.join(words)}: {time.monotonic() - begun:.2f} s, {cpu:.2f} CPU s, peak of all so far "
        f"{usage.ru_maxrss / 1024:,.0f} MB, exit {done.returncode}; {(done.stdout + done.stderr).strip()[-160:]!r}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "why", "report"))
    parser.add_argument("where", type=Path)
    parser.add_argument("--count", type=int, default=1_000_000)
    args = parser.parse_args()
    if args.what == "make":
        make(args.where, args.count)
    elif args.what == "report":
        command("report", str(args.where))
    else:
        for index in args.where.rglob("ids.index"):
            os.unlink(index)
        rows = read_rows(args.where / "select", ["id", "question_id"], verify=False)
        row = next(rows)
        for name in (row["id"], row["id"], row["question_id"], row["question_id"][:10]):
            command("why", name, "--in", str(args.where))


if __name__ == "__main__":
    main()
