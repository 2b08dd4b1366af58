"""Does each training stage improve what it is to improve? Measured on the arithmetic domain by its exact oracle.

    python benchmarks/effects.py --model package:tiny-base --work /some/directory

Every model is made by `train.py`. QFT: share of sampled questions that are solvable. QPO, from the tuned model's own
questions, each improved in one direction: solvable share and steps. Difficulty: rank correlation on held-out rows.
SFT: share of test problems solved, greedily.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

from sq.core.chat import ChatFormat  # noqa: E402
from sq.domains.arithmetic import ArithmeticDomain, add_steps, judge, mend  # noqa: E402
from sq.models.load import ModelConfig, locate  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Train, measure, print one line for each claim, and write `effects.json`."""
    options = _options()
    work, base = Path(options.work), locate(ModelConfig(name="base", path=options.model))
    told: dict[str, Any] = {}
    told["raw"] = quality(sampled(base, options.questions, 0))
    qft = train(
        work / "qft", base, options, "stage=qft", f"data.limit={options.seeds}", "stage.lr=5e-4", "stage.batch_packs=2"
    )
    told["+QFT"] = quality(sampled(qft, options.questions, 1))
    pairs = written(work / "pairs.jsonl", improved(sampled(qft, options.pairs, 2)))
    qpo = train(work / "qpo", qft, options, "stage=qpo", f"data.input={pairs}", "stage.lr=2e-4", "stage.batch_rows=32",
                "stage.warmup_steps=2", "stage.epochs=2")  # fmt: skip
    told["+QPO"] = quality(sampled(qpo, options.questions, 3))
    labels = written(work / "labels.jsonl", labelled(options.seeds))
    train(work / "difficulty", base, options, "stage=difficulty", f"data.input={labels}", "stage.lr=5e-4",
          "stage.head_lr=5e-3", "stage.batch_rows=32", "stage.epochs=3", "stage.validation=0.1")  # fmt: skip
    told["difficulty"] = {k: v for k, v in figures(work / "difficulty").items() if k.startswith("val/")}
    told["base, solved"] = accuracy(base, options.problems)
    sft = train(work / "sft", base, options, "stage=sft", f"data.limit={options.seeds}", "stage.lr=1e-3",
                "stage.batch_packs=2", "stage.epochs=3")  # fmt: skip
    told["+SFT, solved"] = accuracy(sft, options.problems)
    for name, value in told.items():
        print(f"{name:14s} {json.dumps(value)}")
    (work / "effects.json").write_text(json.dumps(told, indent=1) + "\n")


def train(output: Path, model: str, options: argparse.Namespace, *words: str) -> str:
    """One `train.py` run; returns where the model is."""
    command = [sys.executable, str(ROOT / "train.py"), *words, "model=tiny", f"model.path={model}",
               f"output_dir={output}",
               "tracking=none", "stage.pack_tokens=2048", f"seed={options.seed}"]  # fmt: skip
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    print(f"{done.stderr.strip().splitlines()[-1]} ({time.monotonic() - started:.0f} s in all)", file=sys.stderr)
    return str(output / "model")


def figures(output: Path) -> dict[str, float]:
    """The final figures of a run."""
    return dict(json.loads((output / "train.json").read_text())["figures"])


def quality(questions: list[str]) -> dict[str, float]:
    """Share of solvable questions, and how many steps those need."""
    judged = [judge(text) for text in questions]
    steps = [j.steps for j in judged if j.solvable]
    return {
        "questions": len(questions),
        "solvable": round(len(steps) / len(judged), 3),
        "steps": round(statistics.mean(steps), 2) if steps else 0.0,
        "steps_each": round(sum(steps) / len(judged), 3),  # an unsolvable question counts as none
    }


def improved(questions: list[str]) -> list[dict[str, str]]:
    """Each question made solvable or harder, by the domain's own rewriting; those it cannot better are left out."""
    draw, pairs = random.Random(0), []
    for text in dict.fromkeys(questions):
        direction = draw.choice(["solvability", "difficulty"])
        better = mend(text, draw) if direction == "solvability" else add_steps(text, draw)
        if better and better != text:
            pairs.append({"chosen": better, "rejected": text, "direction": direction})
    return pairs


def labelled(count: int) -> list[dict[str, Any]]:
    """Problems whose fail rate is told by the steps they need: 0 for one, 1 for six."""
    return [
        {"question": s["question"], "fail_rate": (s["steps"] - 1) / 5, "n": 8}
        for s in ArithmeticDomain().seeds(count, 5)
    ]


def accuracy(path: str, count: int) -> float:
    """Share of test problems whose greedy solution ends in the right answer."""
    domain = ArithmeticDomain()
    problems = list(domain.seeds(count, 0, "test"))
    model, tokenizer, chat = _loaded(path)
    right = 0
    for start in range(0, count, 100):
        part = problems[start : start + 100]
        prompts = [list(chat.answer_ids(p["question"], instruction=domain.instruction)) for p in part]
        texts = _generated(model, tokenizer, prompts, list(chat.answer_stop_ids), greedy=True)
        for problem, text in zip(part, texts, strict=True):
            found = domain.final_answer(text)
            right += found is not None and domain.check(found, problem["answer"])
    return round(right / count, 3)


def sampled(path: str, count: int, seed: int) -> list[str]:
    """Questions drawn from nothing but the prefix, at T 1 and top-p 0.99; cut-off ones are left in."""
    model, _, chat = _loaded(path)
    torch.manual_seed(seed)
    texts = []
    for start in range(0, count, 200):
        prompts = torch.tensor([chat.question_prefix_ids] * min(200, count - start))
        out = model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            do_sample=True,
            temperature=1.0,
            top_p=0.99,
            top_k=0,
            max_new_tokens=160,
            eos_token_id=list(chat.stop_ids),
            pad_token_id=chat.stop_ids[0],
        )
        texts += [chat.question_text(ids[prompts.shape[1] :]) for ids in out.tolist()]
    return texts


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _loaded(path: str) -> tuple[Any, Any, ChatFormat]:
    tokenizer = AutoTokenizer.from_pretrained(path)
    return AutoModelForCausalLM.from_pretrained(path).eval(), tokenizer, ChatFormat.from_tokenizer(tokenizer)


@torch.no_grad()
def _generated(model: Any, tokenizer: Any, prompts: list[list[int]], stops: list[int], *, greedy: bool) -> list[str]:
    width, pad = max(map(len, prompts)), stops[0]
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    out = model.generate(
        ids, attention_mask=mask, do_sample=not greedy, max_new_tokens=200, eos_token_id=stops, pad_token_id=pad
    )
    return [tokenizer.decode(row[width:], skip_special_tokens=True) for row in out]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="package:tiny-base", help="a base that knows the domain's language")
    parser.add_argument("--work", required=True, help="directory for models and rows; what is in it is not made again")
    parser.add_argument("--seeds", type=int, default=3000, help="seed problems for QFT, SFT and difficulty")
    parser.add_argument("--pairs", type=int, default=1000, help="questions to make pairs of")
    parser.add_argument("--questions", type=int, default=400, help="questions to judge per model")
    parser.add_argument("--problems", type=int, default=200, help="test problems to solve")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
