"""Directories of a million rows, as a run leaves them, and what it takes to ask about them and to go on with them.

    python benchmarks/million.py make DIR --count 1000000    # questions, filter, answers, select; natural texts
    python benchmarks/million.py again DIR [--only answers]  # half a stage goes on, is finished, is opened again
    python benchmarks/million.py why DIR                     # sq why: the index made, then used
    python benchmarks/million.py report DIR                  # sq report: seconds and peak memory

Questions are the arithmetic domain's with other numbers, four fifths pass the filter, each has one answer, nineteen of
twenty are selected. The parts are those of the stages themselves, with an engine that answers at once: their items and
keys, as the ledger writes them. `again` gives processor seconds beside the imports (2 to 7).
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import random
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from scale import CannedConfig, CannedEngine, job

from sq.core.codec import Codec
from sq.core.ledger import WorkItem, read_manifest, read_rows
from sq.core.manifest import Manifest, write_manifest
from sq.core.parts import write_part
from sq.core.rejects import Reject
from sq.core.rows import fit_row
from sq.domains.arithmetic import ArithmeticDomain
from sq.engine.base import Request, Result, ScoreRequest, ScoreResult
from sq.synth.config import SynthJob
from sq.synth.parts import identity_of

PART = 1024
STAGES = {
    "questions": ["stage.count={count}"],
    "filter": ["input={where}/questions", "filters=[format,language]"],
    "answers": ["input={where}/filter", "stage.n=1"],
    "select": ["input={where}/answers", "stage.method=reward"],
}
REASONS = {"filter": ("duplicate", "not_solvable", "language", "cut-off"), "select": ("no_answer", "cut_off")}
PROBLEMS = list(ArithmeticDomain().seeds(4000, 0, "train"))


class FirstRequest(CannedConfig):
    """An engine that ends the process when it is first asked."""

    def create(self, model: Any) -> CannedEngine:
        return _Ends([])


class _Ends(CannedEngine):
    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        next(iter(requests))
        os._exit(0)
        yield from ()

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[ScoreResult]:
        next(iter(requests))
        os._exit(0)
        yield from ()


def stage_job(stage: str, where: Path, count: int, engine: CannedConfig) -> SynthJob:
    given = [text.format(where=where, count=count) for text in STAGES[stage]]
    return job(stage, engine, f"output_dir={where / stage}", *given)


def content(stage: str, item: WorkItem, number: int) -> dict[str, Any]:
    """What a stage makes of an item."""
    rng = random.Random(number)
    base = PROBLEMS[number % len(PROBLEMS)]
    if stage == "questions":
        question = re.sub(r"\d+", lambda m: str(rng.randint(2, 99)), base["question"])
        return {
            "id": item.key, "run": "benchmark", "model": "canned", "seed": number, "parents": [], "question": question,
            "domain": "math", "generator": "canned", "index": number, "question_tokens": len(question.split()),
            "question_finish_reason": "stop", "question_prompt_tokens": 4,
        }  # fmt: skip
    if stage == "filter":
        return dict(item.payload.row) | {"language": "en", "language_score": 0.98}
    if stage == "answers":
        row: dict[str, Any] = item.payload
        return row | {
            "id": blake2b(item.key.encode(), digest_size=16).hexdigest(), "parents": [row["id"]],
            "question_id": row["id"], "response": base["solution"] * 3, "response_index": 0, "response_model": "canned",
            "response_answer": base["answer"], "response_finish_reason": "stop", "response_tokens": 150,
        }  # fmt: skip
    return dict(item.payload[0]) | {
        "reward": rng.random(), "query": item.payload[0]["question"], "selected_by": "reward", "candidates": 1,
        "rank": 0,
    }  # fmt: skip


def make(where: Path, count: int, stages: list[str]) -> None:
    """Write all stages."""
    for stage in stages:
        one = stage_job(stage, where, count, CannedConfig())
        spec = one.stage.spec(one)
        directory, codec = where / stage, Codec(spec.schema)
        directory.mkdir(parents=True, exist_ok=True)
        read = {data.name: data.digest for data in spec.inputs}
        manifest = Manifest(schema=codec.text, config=identity_of(one, spec), inputs=read, part_size=PART)
        parts, items = {}, enumerate(spec.items())
        while block := list(itertools.islice(items, PART)):
            results: dict[str, Any] = {}
            for number, item in block:
                row = fit_row(content(stage, item, number), spec.schema)
                results[item.key] = ([codec.values(row, item.key)], [])
                if number % 5 == 0 and stage == "filter" or number % 20 == 1 and stage == "select":
                    reason = REASONS[stage][number // 20 % len(REASONS[stage])]
                    results[item.key] = ([], [Reject(row=row, reason=reason, detail="").values(item.key)])
            part = write_part(directory, len(parts), list(results), results, codec, manifest)
            parts[part.index] = part
        manifest = replace(manifest, parts=parts, finished=True)
        write_manifest(directory, manifest)
        print(f"{stage}: {manifest.rows:,} rows, {manifest.rejects:,} rejects", flush=True)


def again(where: Path, stage: str) -> None:
    """Half of a stage's parts taken away, until the next row is asked for; all there, but not finished; finished."""
    directory, kept = where / stage, where / f"{stage}-kept"
    whole = read_manifest(directory)
    half = {index: part for index, part in whole.parts.items() if index < len(whole.parts) // 2}
    kept.mkdir(exist_ok=True)
    moved = [directory / name for i, part in whole.parts.items() if i not in half
             for name in (part.file, part.rejects_file) if (directory / name).is_file()]  # fmt: skip
    for path in moved:
        path.rename(kept / path.name)
    write_manifest(directory, replace(whole, parts=half, finished=False))
    count = int(read_manifest(where / "questions").config["count"])
    measure(f"{stage}, half done, to the first request", stage_job(stage, where, count, FirstRequest()))
    for path in moved:
        (kept / path.name).rename(path)
    kept.rmdir()
    (directory / "figures.json").unlink(missing_ok=True)
    write_manifest(directory, replace(whole, finished=False))
    whole_job = stage_job(stage, where, count, CannedConfig())
    measure(f"{stage}, all parts there, to the end", whole_job)
    measure(f"{stage}, finished, opened again", whole_job)


def measure(what: str, one: SynthJob) -> None:
    """Run a stage in a fork, to its end or its first request."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            one.run()
        except Exception as error:
            print(f"{what}: {error}", flush=True)
        finally:
            os._exit(0)
    usage = os.wait4(child, 0)[2]
    print(f"{what}: {usage.ru_utime + usage.ru_stime:.1f} CPU s, peak {usage.ru_maxrss / 1024:,.0f} MB", flush=True)


def command(*words: str) -> None:
    """Run it and print seconds, processor seconds and peak memory."""
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{' '.join(words[1:])}: {time.monotonic() - begun:.2f} s, {cpu:.2f} CPU s, peak of all so far "
        f"{usage.ru_maxrss / 1024:,.0f} MB, exit {done.returncode}; {(done.stdout + done.stderr).strip()[-160:]!r}",
        flush=True,
    )


def why(where: Path) -> None:
    """Ask for ids of the last stage, without and with the index."""
    for index in where.rglob("ids.index"):
        os.unlink(index)
    row = next(read_rows(where / "select", ["id", "question_id"], verify=False))
    for name in (row["id"], row["id"], row["question_id"], row["question_id"][:10]):
        command("-m", "sq.cli", "why", name, "--in", str(where))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "again", "why", "report"))
    parser.add_argument("where", type=Path)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--only", choices=list(STAGES), nargs="*", default=list(STAGES))
    args = parser.parse_args()
    logging.disable(logging.INFO)
    if args.what == "make":
        make(args.where, args.count, args.only)
    elif args.what == "again":
        for stage in args.only:
            again(args.where, stage)
    elif args.what == "report":
        command("-m", "sq.cli", "report", str(args.where))
    else:
        why(args.where)


if __name__ == "__main__":
    main()
