"""Training beside TRL at its best, in one run: same model, rows, precision and threads; ratios per CPU second.

    python benchmarks/train.py                        # both comparisons, three times in turn, medians
    python benchmarks/train.py --task qpo --repeats 1

QFT against SFTTrainer with packing, without checkpointing; QPO against DPOTrainer with precomputed references, whose
pass is counted on both sides. TRL lives in an environment of its own that shares torch and transformers with ours; it
is made on demand under $SQ_PEERS (else a temporary directory). Wall time depends on what else runs, CPU time less.
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

ROOT = Path(__file__).resolve().parents[1]
TRL = "trl==1.16.0"
GOALS = {"qft": 2.0, "qpo": 2.3}
MEMORY_GOAL = 0.85


def main() -> None:
    """Run both sides in turn and print medians and ratios."""
    options = _options()
    questions = options.data or ROOT.parent / "shared" / "data" / "gsm8k_train.jsonl"
    if not Path(questions).is_file():
        sys.exit(f"{questions} is not there: --data FILE with a `question` in each line")
    peer = _peer_python()
    with tempfile.TemporaryDirectory() as place:
        for task in [options.task] if options.task else ["qft", "qpo"]:
            rows = _rows(Path(place), Path(questions), options, task)
            sides: dict[str, list[dict[str, float]]] = {"trl": [], "ours": []}
            for _ in range(options.repeats):
                sides["trl"].append(_run([peer, str(Path(__file__).with_name("train_trl.py"))], rows, options, task))
                sides["ours"].append(
                    _run([sys.executable, str(Path(__file__).with_name("train_ours.py"))], rows, options, task)
                )
            _report(task, sides)


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
            f"loss {found['loss']:.3f}"
        )
    speed = middle["ours"]["rate"] / middle["trl"]["rate"]
    memory = middle["ours"]["peak_mb"] / middle["trl"]["peak_mb"]
    print(f"{task} ratio {speed:.2f}x (goal {GOALS[task]}x), memory {memory:.2f}x (goal {MEMORY_GOAL}x)", flush=True)


def _run(command: list[str], rows: Path, options: argparse.Namespace, task: str) -> dict[str, float]:
    settings = {
        "task": task, "rows": str(rows), "model": options.model, "steps": options.steps, "batch": options.batch,
        "precision": options.precision, "threads": options.threads,
    }  # fmt: skip
    environment = {**os.environ, "GOMP_SPINCOUNT": "1000", "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"}
    environment |= {"OMP_NUM_THREADS": str(options.threads), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*command, json.dumps(settings)], capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _rows(place: Path, questions: Path, options: argparse.Namespace, task: str) -> Path:
    """Short questions; for QPO in pairs, one the chosen and another the rejected."""
    count = options.steps * options.batch * (2 if task == "qpo" else 1)
    texts = [json.loads(line)["question"] for line in questions.read_text().split("\n") if line]
    texts = [text for text in texts if 60 <= len(text) <= 170][:count]
    if len(texts) < count:
        sys.exit(
            f"{questions} has only {len(texts)} short questions, {count} are needed: fewer --steps, smaller --batch"
        )
    rows: list[dict[str, Any]] = [{"question": text} for text in texts]
    if task == "qpo":
        rows = [{"chosen": a, "rejected": b} for a, b in zip(texts[::2], texts[1::2], strict=True)]
    path = place / f"{task}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


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
    parser.add_argument("--data", type=Path, help="JSON lines with a `question`; default: GSM8K's training set")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="optimiser steps; QFT's first is not counted")
    parser.add_argument("--batch", type=int, default=32, help="rows or pairs in a step")
    parser.add_argument("--precision", choices=["bf16_mixed", "fp32"], default="bf16_mixed")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
