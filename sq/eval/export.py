"""An evaluation as lm-evaluation-harness and Inspect write theirs, so that their tools read it beside their own.

`export=[lm-eval,inspect]`: `OUTPUT/lm-eval/MODEL/results_TIME.json` with `samples_BENCHMARK_TIME.jsonl` beside it,
and `OUTPUT/inspect/BENCHMARK.json`. Neither package is needed. GSM8K has the scores by lm-evaluation-harness' two rules
too.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sq.core.ledger import read_rows
from sq.core.rows import row_id
from sq.engine.base import Message
from sq.eval.report import write_jsonl
from sq.eval.score import scores_dir

LM_EVAL_RULES = {
    "strict-match": (re.compile(r"#### (\-?[0-9\.\,]+)"), 0),
    "flexible-extract": (re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)"), -1),
}
"""What its task gsm8k looks for, and which of several matches it takes."""
_IGNORED = [re.compile(pattern) for pattern in (",", r"\$", r"(?s).*#### ", r"\.$")]
_STOPPED = {"stop": "stop", "length": "max_tokens"}
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ExportedBenchmark:
    """What an export says of a benchmark beside its answers.

    Attributes:
        form: of its answers; `gsm8k` has rules of its own.
        shots: worked examples in a prompt.
        prompts: what the model was sent, by problem.
        messages: the same before a chat template.
    """

    form: str
    shots: int
    prompts: Mapping[str, str]
    messages: Mapping[str, Sequence[Message]]


def export(formats: Sequence[str], output: Path, benchmarks: Mapping[str, ExportedBenchmark], model: str) -> None:
    """Write what other harnesses read.

    Args:
        formats: which ones.
        output: the evaluation's directory.
        benchmarks: what is evaluated, by name.
        model: its name.
    """
    rows = {name: _answers(scores_dir(output / name)) for name in benchmarks}
    written = max((p.stat().st_mtime for n in benchmarks for p in scores_dir(output / n).glob("*.json")), default=0.0)
    when = datetime.fromtimestamp(written, UTC)  # of the scores: the same evaluation gives the same files
    if "lm-eval" in formats:
        _write_lm_eval(output / "lm-eval" / re.sub(r'["<>:/|\\?*\[\]]+', "__", model), rows, benchmarks, model, when)
    if "inspect" in formats:
        (output / "inspect").mkdir(exist_ok=True)
        for name, answers in rows.items():
            log = inspect_log(name, answers, benchmarks[name].messages, model, when.isoformat())
            (output / "inspect" / f"{name}.json").write_text(json.dumps(log, ensure_ascii=False), encoding="utf-8")


def by_lm_eval(rule: str, prediction: str, reference: str) -> tuple[str, bool]:
    """What lm-evaluation-harness finds in an output for GSM8K by one of its rules, and whether it calls it right."""
    pattern, place = LM_EVAL_RULES[rule]
    matches = pattern.findall(prediction)
    match = matches[place] if matches else "[invalid]"
    answer = (next(filter(None, match)) if isinstance(match, tuple) else match).strip()
    return answer, _plain(answer) == _plain(reference)


def _plain(text: str) -> str:
    for ignored in _IGNORED:
        text = ignored.sub("", text)
    return text.lower()


def _answers(scores: Path) -> list[Row]:
    """A benchmark's answers in order, each with its grades by profile."""
    answers: dict[str, Row] = {}
    for row in read_rows(scores):
        one = answers.setdefault(row["parents"][0], {**row, "grades": {}})
        one["grades"][row["profile"]] = row
    return list(answers.values())


def _by_problem(answers: Sequence[Row]) -> list[list[Row]]:
    """The answers to each problem, in order of their samples."""
    problems: dict[str, list[Row]] = {}
    for row in answers:
        problems.setdefault(row["item"], []).append(row)
    return [sorted(rows, key=lambda row: row["sample"]) for rows in problems.values()]


def _write_lm_eval(
    directory: Path,
    rows: Mapping[str, list[Row]],
    benchmarks: Mapping[str, ExportedBenchmark],
    model: str,
    when: datetime,
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    stamp = when.strftime("%Y-%m-%dT%H-%M-%S.%f")
    results: dict[str, Row] = {}
    problems = {name: _by_problem(answers) for name, answers in rows.items()}
    for name, documents in problems.items():
        samples = [s for k, answers in enumerate(documents) for s in _lm_eval_samples(k, answers, benchmarks[name])]
        write_jsonl(directory / f"samples_{name}_{stamp}.jsonl", samples)
        shares: dict[str, list[float]] = {}
        for sample in samples:
            shares.setdefault(sample["filter"], []).append(sample["exact_match"])
        results[name] = {"alias": name, "sample_len": len(documents)}
        for rule, values in shares.items():
            results[name] |= {f"exact_match,{rule}": _mean(values), f"exact_match_stderr,{rule}": _stderr(values)}
    document = {
        "results": results,
        "group_subtasks": {name: [] for name in rows},
        "configs": {
            name: {
                "task": name,
                "output_type": "generate_until",
                "num_fewshot": benchmarks[name].shots,
                "repeats": max(map(len, documents), default=1),
                "metadata": {"written_by": "sq"},
            }
            for name, documents in problems.items()
        },  # fmt: skip
        "versions": {name: "sq" for name in rows},
        "n-shot": {name: benchmarks[name].shots for name in rows},
        "higher_is_better": {name: {"exact_match": True} for name in rows},
        "n-samples": {name: {"original": len(d), "effective": len(d)} for name, d in problems.items()},
        "model_name": model,
        "model_name_sanitized": directory.name,
        "date": when.timestamp(),
    }
    (directory / f"results_{stamp}.json").write_text(json.dumps(document, indent=2), encoding="utf-8")


def _lm_eval_samples(number: int, answers: Sequence[Row], benchmark: ExportedBenchmark) -> Iterable[Row]:
    """A problem with its answers under every rule: our graders', and those of the harness itself for GSM8K."""
    first = answers[0]
    prompt, reference = benchmark.prompts.get(first["item"], first["question"]), first["reference"]
    graded: dict[str, list[tuple[str, bool]]] = {}
    for row in answers:
        for profile, grade in row["grades"].items():
            graded.setdefault(f"sq-{profile}", []).append((grade["extracted"] or "[invalid]", grade["correct"]))
        for rule in LM_EVAL_RULES if benchmark.form == "gsm8k" else ():
            graded.setdefault(rule, []).append(by_lm_eval(rule, row["prediction"], reference))
    for rule, pairs in graded.items():
        extracted = [text for text, _ in pairs]
        yield {
            "doc_id": number,
            "doc": {"question": first["question"], "answer": reference},
            "target": reference,
            "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": {}}},
            "resps": [[row["prediction"] for row in answers]],
            "filtered_resps": extracted if len(extracted) == 1 else [extracted],
            "filter": rule,
            "metrics": ["exact_match"],
            "doc_hash": _hash(first["item"]),
            "prompt_hash": _hash(prompt),
            "target_hash": _hash(reference),
            "exact_match": _mean([float(correct) for _, correct in pairs]),
        }


def inspect_log(
    name: str, answers: Sequence[Row], prompts: Mapping[str, Sequence[Message]], model: str, created: str
) -> Row:
    """A log of Inspect (version 2, its JSON form): a sample for each answer, several of a problem as its epochs."""
    profiles = list(answers[0]["grades"]) if answers else []
    problems = _by_problem(answers)
    shares = {p: [_mean([float(row["grades"][p]["correct"]) for row in rows]) for rows in problems] for p in profiles}
    items = [rows[0]["item"] for rows in problems]
    identity = row_id("inspect", benchmark=name, model=model, created=created)
    scores = [
        {"name": p, "scorer": p, "scored_samples": len(v), "unscored_samples": 0,
         "metrics": {n: {"name": n, "value": x} for n, x in (("accuracy", _mean(v)), ("stderr", _stderr(v)))}}
        for p, v in shares.items()
    ]  # fmt: skip
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": identity, "run_id": identity, "created": created, "task": name, "task_id": identity,
            "dataset": {"name": name, "samples": len(items), "sample_ids": items}, "model": f"none/{model}",
            "config": {"epochs": 1 + max((row["sample"] for row in answers), default=0)},
        },
        "plan": {"name": "plan", "steps": [], "config": {}},
        "results": {"total_samples": len(answers), "completed_samples": len(answers), "scores": scores},
        "stats": {"started_at": created, "completed_at": created},
        "samples": [_inspect_sample(row, prompts[row["item"]], model) for row in answers],
    }  # fmt: skip


def _inspect_sample(row: Row, prompt: Sequence[Message], model: str) -> Row:
    asked = [{**message, "source": "input"} for message in prompt]
    said = {"role": "assistant", "content": row["prediction"], "source": "generate", "model": model}
    stop = _STOPPED.get(row["prediction_finish_reason"], "unknown")
    return {
        "id": row["item"],
        "epoch": row["sample"] + 1,
        "input": asked if len(asked) > 1 else asked[0]["content"],
        "target": row["reference"],
        "messages": [*asked, said],
        "output": {
            "model": model,
            "choices": [{"message": said, "stop_reason": stop}],
            "completion": row["prediction"],
        },
        "scores": {
            profile: {
                "value": "C" if grade["correct"] else "I",
                "answer": grade["extracted"],
                "explanation": f"{grade['verdict']}: {grade['reason']}",
            }
            for profile, grade in row["grades"].items()
        },
        "metadata": {"parents": list(row["parents"])},
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _stderr(values: Sequence[float]) -> float:
    """Of the mean over problems, as both harnesses have it: by the sample's own deviation."""
    mean, count = _mean(values), len(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (count - 1) / count) if count > 1 else 0.0


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
