"""Training beside TRL at its best, in one run: same model, rows, precision and threads; ratios per CPU second.

    python benchmarks/train.py                        # all comparisons, three times in turn, medians
    python benchmarks/train.py --task qpo --repeats 1

QFT and SFT against SFTTrainer with packing, without checkpointing; QPO against DPOTrainer with precomputed references,
whose pass is counted on both sides. Before that the numerics: our packed, prefix-shared loss in fp32 against the same
rows one by one through transformers' own forward. TRL lives in an environment of its own that shares torch and
transformers with ours; it is made on demand under $SQ_PEERS (else a temporary directory). Wall time depends on what
else runs, CPU time less.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path
from typing import Any

from sq.core.cpu import cpu_has_bf16

ROOT = Path(__file__).resolve().parents[1]
TRL = "trl==1.16.0"
GOALS = {"qft": 1.5, "sft": 1.2, "qpo": 1.5}
LOSS_GOAL = 1e-4
FASTEST = "bf16_mixed" if cpu_has_bf16() else "fp32"


def main() -> None:
    """Run both sides in turn and print medians and ratios."""
    options = _options()
    questions = options.data or ROOT.parent / "shared" / "data" / "gsm8k_train.jsonl"
    if not Path(questions).is_file():
        sys.exit(f"{questions} is not there: --data FILE with a `question` in each line")
    peer = [_peer_python(), str(Path(__file__).with_name("train_trl.py"))]
    ours, numerics = ([sys.executable, str(Path(__file__).with_name(f"train_{n}.py"))] for n in ("ours", "numerics"))
    with tempfile.TemporaryDirectory() as place:
        for task in [options.task] if options.task else GOALS:
            settings = _rows(Path(place), Path(questions), options, task)
            _numerics(task, _run(numerics, settings))
            sides: dict[str, list[dict[str, float]]] = {"trl": [], "ours": []}
            for _ in range(options.repeats):
                sides["trl"].append(_run(peer, settings))
                sides["ours"].append(_run(ours, settings))
            _report(task, sides)


def _numerics(task: str, found: dict[str, float]) -> None:
    off = abs(found["packed"] - found["unpacked"]) / abs(found["unpacked"])
    print(
        f"{task} fp32 loss of {found['rows']:.0f} rows: packed with the prefix shared {found['packed']:.6f}, "
        f"one by one {found['unpacked']:.6f}, off by {off:.1e} (goal {LOSS_GOAL:g})",
        flush=True,
    )


def _report(task: str, sides: dict[str, list[dict[str, float]]]) -> None:
    middle = {
        side: {name: statistics.median(run[name] for run in runs) for name in ("rate", "peak_mb", "loss")}
        for side, runs in sides.items()
    }
    unit = "pairs" if task == "qpo" else "rows"
    for side, found in middle.items():
        spread = ", ".join(f"{run['rate']:.2f}" for run in sides[side])
        print(
            f"{task} {side:5s} {found['rate']:6.2f} {unit} per CPU s ({spread}), peak {found['peak_mb']:,.0f} MB, "
            f"loss of the first step {found['loss']:.3f}"
        )
    speed = middle["ours"]["rate"] / middle["trl"]["rate"]
    memory = middle["ours"]["peak_mb"] / middle["trl"]["peak_mb"]
    print(f"{task} ratio {speed:.2f}x (goal {GOALS[task]}x), memory {memory:.2f}x", flush=True)


def _run(command: list[str], settings: dict[str, Any]) -> dict[str, float]:
    environment = {**os.environ, "GOMP_SPINCOUNT": "1000", "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"}
    environment |= {"OMP_NUM_THREADS": str(settings["threads"]), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*command, json.dumps(settings)], capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _rows(place: Path, questions: Path, options: argparse.Namespace, task: str) -> dict[str, Any]:
    """Questions as they come (with their solutions; in pairs, one chosen and the next rejected), and all settings."""
    batch = options.batch or (64 if task == "qft" else 32)
    count = options.steps * batch
    rows = [json.loads(line) for line in questions.read_text().split("\n") if line]
    rows = rows[: count * (2 if task == "qpo" else 1)]
    if len(rows) < count * (2 if task == "qpo" else 1):
        sys.exit(f"{questions} has only {len(rows)} questions, more are needed: fewer --steps, smaller --batch")
    made: list[dict[str, Any]] = [{"question": row["question"]} for row in rows]
    if task == "sft":
        made = [{"question": row["question"], "response": row["answer"]} for row in rows]
    if task == "qpo":
        made = [
            {"chosen": a["question"], "rejected": b["question"]} for a, b in zip(rows[::2], rows[1::2], strict=True)
        ]
    path = place / f"{task}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return {
        "task": task, "rows": str(path), "count": count, "model": options.model, "steps": options.steps,
        "batch": batch, "precision": options.precision, "threads": options.threads,
        "peer": json.loads(options.peer), "pack_tokens": options.pack_tokens, "instruction": "",
    }  # fmt: skip


def _peer_python() -> str:
    """The Python of TRL's environment: a venv that sees our packages, with TRL alone installed into it."""
    place = Path(os.environ.get("SQ_PEERS") or Path(tempfile.gettempdir()) / "sq-peers") / TRL.replace("==", "-")
    python = place / "bin" / "python"
    if not (place / "ready").exists():
        venv.create(place, with_pip=True, clear=True)
        site = next((place / "lib").glob("python*")) / "site-packages"
        (site / "ours.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        subprocess.run([str(python), "-m", "pip", "install", "-q", "--no-deps", TRL], check=True)
        (place / "ready").touch()
    return str(python)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=sorted(GOALS), help="one comparison only")
    parser.add_argument("--model", default="fetch:smollm2-135m", help="a model as in conf/model: a path, or fetch:NAME")
    parser.add_argument("--data", type=Path, help="JSON lines with `question`, `answer`; default: GSM8K's training set")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="optimiser steps; the first is not counted")
    parser.add_argument("--batch", type=int, help="rows or pairs in a step; default: 64 questions, else 32")
    parser.add_argument("--precision", choices=["bf16_mixed", "fp32"], default=FASTEST, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pack-tokens", type=int, help="ours; default: as many as keep the memory goal")
    parser.add_argument("--peer", default="{}", help="TRL's settings, to try others than its best (see train_trl.py)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
