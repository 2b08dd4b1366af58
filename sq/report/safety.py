"""A safety model's word on a sample of the dataset (paper v2: Llama-Guard on 10,000 rows, 0.1% flagged).

Off unless a model is named. The model's own chat template holds its policy; its reply begins with "safe" or "unsafe"
and then names the categories. Any other reply is unreadable, which is counted as such and never as safe.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sq.core.errors import ConfigError
from sq.core.files import write_files
from sq.engine.base import Request, Sampling
from sq.engine.config import EngineConfig
from sq.models.load import ModelConfig
from sq.report.artifacts import RunArtifacts, read_json
from sq.report.html import Section, join, table
from sq.report.measure import percent, wilson_text

SAMPLE = 10_000
RESULT = "safety.json"
SHOWN = 10
REPLY = re.compile(r"\s*(safe|unsafe)\b[\s:,]*((?:[A-Z]{1,2}\d{1,2}[\s,]*)*)", re.IGNORECASE)


def section(artifacts: RunArtifacts, directory: Path, guard: str | None) -> Section | None:
    """What the model said; without one, what it said the last time, where that was of this very dataset.

    Raises:
        SqError: a model that cannot be loaded.
    """
    if not artifacts.finals:
        return None
    told = read_json(directory / RESULT)
    if guard is not None:
        told = classify(artifacts, _model(guard), _engine())
        write_files(directory, {RESULT: json.dumps(told, indent=1, ensure_ascii=False).encode()})
    if told.get("dataset") != artifacts.dataset:
        return None
    counts: dict[str, int] = told["counts"]
    total = sum(counts.values())
    rows = [
        [
            name,
            f"{counts.get(name, 0):,}",
            percent(counts.get(name, 0) / max(total, 1), 2),
            wilson_text(counts.get(name, 0), total),
        ]
        for name in ("safe", "unsafe", "unreadable")
    ]
    parts = [table(["verdict", "rows", "share", "95% interval"], rows, caption=f"Verdicts of {told['model']}")]
    if told["categories"]:
        named = [[name, f"{n:,}"] for name, n in sorted(told["categories"].items(), key=lambda item: -item[1])]
        parts.append(table(["category", "rows"], named, caption="Categories of what was flagged"))
    if told["flagged"]:
        flagged = [[row["id"][:12], row["question"][:300]] for row in told["flagged"]]
        parts.append(table(["row", "question"], flagged, caption="Some that were flagged", words=2))
    written = sum(stage.manifest.rows for stage in artifacts.finals if stage.manifest)
    says = f"{told['model']} on {total:,} of the dataset's {written:,} rows, question and answer together."
    return Section(
        id="safety", title="Safety", says=says, body=join(parts), paper="v2: 0.1% of 10,000 flagged by Llama-Guard"
    )


def classify(artifacts: RunArtifacts, model: ModelConfig, engine: EngineConfig, sample: int = SAMPLE) -> dict[str, Any]:
    """The model's verdicts on a sample of the dataset's rows.

    Raises:
        SqError: a model that cannot be loaded, or has no chat template to say what it is asked.
    """
    from sq.models.load import load_tokenizer

    each = -(-sample // len(artifacts.finals))
    rows = {row["id"]: row for stage in artifacts.finals for row in stage.sample(each, "question", "response")}
    tokenizer: Any = load_tokenizer(model)
    if not tokenizer.chat_template:
        raise ConfigError(
            f"{model.path} has no chat template, so there is no telling how it is asked; name a safety model"
        )
    speaks = engine.create(model)
    counts: Counter[str] = Counter()
    categories: Counter[str] = Counter()
    flagged: list[dict[str, str]] = []
    try:
        for result in speaks.generate(_requests(rows.values(), tokenizer)):
            reply = result.completions[0].text if result.completions else ""
            verdict, named = read_reply(reply)
            counts[verdict] += 1
            categories.update(named)
            if verdict == "unsafe" and len(flagged) < SHOWN:
                flagged.append({"id": result.key, "question": rows[result.key]["question"]})
    finally:
        speaks.close()
    return {
        "model": model.name, "dataset": artifacts.dataset, "counts": dict(counts), "categories": dict(categories),
        "flagged": flagged,
    }  # fmt: skip


def read_reply(reply: str) -> tuple[str, Sequence[str]]:
    """The verdict at the start of a reply, and the categories it names."""
    found = REPLY.match(reply)
    if found is None:
        return "unreadable", ()
    verdict = found[1].lower()
    return verdict, re.findall(r"[A-Z]{1,2}\d{1,2}", found[2].upper()) if verdict == "unsafe" else ()


def _requests(rows: Any, tokenizer: Any) -> Iterator[Request]:
    stops = (tokenizer.eos_token_id,) if tokenizer.eos_token_id is not None else ()
    sampling = Sampling(temperature=0.0, max_tokens=32, stop_token_ids=stops)
    for row in rows:
        messages = [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["response"]}]
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        yield Request(key=row["id"], sampling=sampling, seed=0, prompt_ids=tuple(ids))


def _model(name: str) -> ModelConfig:
    from omegaconf import OmegaConf

    from sq.core.config import build, conf_dir

    path = conf_dir() / "model" / f"{name}.yaml"
    if path.is_file():
        return build(OmegaConf.load(path), ModelConfig)
    return ModelConfig(name=Path(name).name, path=name)


def _engine() -> EngineConfig:
    """vLLM where it is installed, else transformers."""
    from omegaconf import OmegaConf

    from sq.core.config import build, conf_dir

    name = "vllm" if find_spec("vllm") else "hf"
    return build(OmegaConf.load(conf_dir() / "engine" / f"{name}.yaml"), EngineConfig)
