"""What a safety model says of a sample of the dataset (paper v2: Llama-Guard on 10,000 rows, 0.1% flagged).

Off unless a model is named. The model's own chat template holds its policy; its reply begins with "safe" or "unsafe"
and then names the categories. Any other reply is unreadable, which is counted as such and never as safe.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sq.core.compose import load_option
from sq.core.errors import ConfigError
from sq.core.files import read_json, write_files
from sq.engine.base import Request, Sampling
from sq.engine.config import EngineConfig
from sq.models.load import ModelConfig
from sq.report.artifacts import RunArtifacts
from sq.report.render import Section, section

SAMPLE = 10_000
RESULT = "safety.json"
QUOTED = 10
REPLY = re.compile(r"\s*(safe|unsafe)\b[\s:,]*((?:[A-Z]{1,2}\d{1,2}[\s,]*)*)", re.IGNORECASE)


def safety(artifacts: RunArtifacts, directory: Path, guard: str | None) -> Section | None:
    """What the model says; without one, what it said the last time, where that was of this very dataset."""
    if not artifacts.finals:
        return None
    result = read_json(directory / RESULT)
    if guard is not None:
        model = load_option("model", guard) or ModelConfig(name=Path(guard).name, path=guard)
        result = classify(artifacts, model, load_option("engine", "vllm" if find_spec("vllm") else "hf"))
        write_files(directory, {RESULT: json.dumps(result, indent=1, ensure_ascii=False).encode()})
    if result.get("dataset") != artifacts.dataset:
        return None
    return section("safety", result=result, total=sum(result["counts"].values()), rows=artifacts.final_rows)


def classify(artifacts: RunArtifacts, model: ModelConfig, engine: EngineConfig, sample: int = SAMPLE) -> dict[str, Any]:
    """How the model labels a sample of the dataset's rows."""
    from sq.models.load import load_tokenizer

    each = -(-sample // len(artifacts.finals))
    rows = {row["id"]: row for stage in artifacts.finals for row in stage.sample(each, "question", "response")}
    tokenizer: Any = load_tokenizer(model)
    if not tokenizer.chat_template:
        raise ConfigError(f"{model.path} has no chat template to be asked with; name a safety model")
    running = engine.create(model)
    counts: Counter[str] = Counter()
    categories: Counter[str] = Counter()
    flagged: list[dict[str, str]] = []
    try:
        for result in running.generate(_requests(rows.values(), tokenizer)):
            label, named = read_reply(result.completions[0].text if result.completions else "")
            counts[label] += 1
            categories.update(named)
            if label == "unsafe" and len(flagged) < QUOTED:
                flagged.append({"id": result.key, "question": rows[result.key]["question"]})
    finally:
        running.close()
    return {
        "model": model.name, "dataset": artifacts.dataset, "counts": dict(counts), "categories": dict(categories),
        "flagged": flagged,
    }  # fmt: skip


def read_reply(reply: str) -> tuple[str, Sequence[str]]:
    """The label at the start of a reply, and the categories it names."""
    match = REPLY.match(reply)
    if match is None:
        return "unreadable", ()
    label = match[1].lower()
    return label, re.findall(r"[A-Z]{1,2}\d{1,2}", match[2].upper()) if label == "unsafe" else ()


def _requests(rows: Iterable[Mapping[str, Any]], tokenizer: Any) -> Iterator[Request]:
    stops = (tokenizer.eos_token_id,) if tokenizer.eos_token_id is not None else ()
    sampling = Sampling(temperature=0.0, max_tokens=32, stop_token_ids=stops)
    for row in rows:
        messages = [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["response"]}]
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        yield Request(key=row["id"], sampling=sampling, seed=0, prompt_ids=tuple(ids))
