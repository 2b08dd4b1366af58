"""The dataset's card: the hub's YAML, what is in it, how it came about and what its limits are, in real figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from sq import __version__
from sq.report.artifacts import RunArtifacts, StageArtifacts, read_json
from sq.report.funnel import chain_of, steps
from sq.report.licences import licence_of
from sq.report.measure import MOST, medians, percent, quality, selected_right, with_interval
from sq.report.overlap import clean
from sq.synth.filters.synthetic_negatives import planted_metrics
from sq.synth.stage_metrics import read_stage_metrics

SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
ROLES = (
    ("generator", "wrote questions"),
    ("judge_model", "judged solvability"),
    ("difficulty_model", "scored difficulty"),
    ("response_model", "wrote answers"),
    ("reward_model", "scored answers"),
)
ABOUT = {
    "query": "what a student is asked: the question, with the instruction that the domain adds",
    "response": "the selected solution",
    "prompt": "query as a chat message, as TRL and other trainers take it",
    "completion": "response as a chat message",
    "id": "of the row, for life",
    "run": "the tracked run that made the answer",
    "model": "fingerprint of the weights that wrote the answer",
    "seed": "it was sampled with",
    "parents": "ids of the rows it was made from, nearest first",
    "question": "without any instruction",
    "generator": "the model that wrote the question",
    "domain": "the kind of problem",
    "question_tokens": "tokens that were generated for it",
    "question_prompt_tokens": "tokens of the prefix it was sampled from",
    "solution": "reference solution, where the question came with one",
    "answer": "reference answer, where the question came with one",
    "steps": "steps of the reference solution",
    "level": "of the source",
    "topic": "of the source, or by a model",
    "source": "where the question was read, if it was not generated",
    "source_row": "its row there",
    "source_id": "its id there",
    "language": "as detected",
    "language_score": "how sure",
    "solvable_yes": "votes for solvable",
    "solvable_votes": "of so many",
    "judge_model": "who judged",
    "judge_tokens": "tokens of the judge's reply",
    "judge_prompt_tokens": "tokens that the judge was given",
    "difficulty_model": "fingerprint of the scorer",
    "response_index": "which of its question's candidates",
    "response_model": "who wrote the solution",
    "response_prompt": "the instruction beside the question",
    "response_seed": "it was sampled with",
    "response_tokens": "tokens of the solution",
    "response_prompt_tokens": "tokens that the solver was given",
    "reward_model": "who scored the solution",
    "agreement": "how far the candidates agree",
    "prefix": "digest of the token ids that the question was sampled from",
    "index": "which sample of that generator",
    "solvable": "the judge's verdict",
    "difficulty": "predicted fail rate, 0 easy to 1 hard",
    "overlap": "share of the question's 13-grams that a benchmark has too",
    "response_answer": "the final answer in the response",
    "correct": "whether it is right, where a reference tells",
    "reward": "the reward model's score",
    "votes": "candidates of the same question with the same answer",
    "selected_by": "why this answer among the candidates",
    "candidates": "how many solutions there were to choose from",
}


def card(artifacts: RunArtifacts, schema: pa.Schema, *, licence: str | None, name: str | None) -> str:
    """README.md of the dataset."""
    title = name or f"{artifacts.title}: questions and solutions"
    rows = sum(stage.manifest.rows for stage in artifacts.finals if stage.manifest)
    parts = [
        front_matter(title, rows, licence),
        f"# {_line(title)}",
        f"{rows:,} questions, each with one solution{_origin(artifacts)}. Made with sq, an implementation of the "
        "ScaleQuest method (arXiv 2410.18693).",
        USE,
        _columns(schema),
        _models(artifacts),
        _steps(artifacts),
        _quality(artifacts),
        _overlap(artifacts),
        _cost(artifacts, rows),
        _limits(artifacts, licence),
        _again(artifacts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def front_matter(title: str, rows: int, licence: str | None) -> str:
    """The YAML that the hub reads."""
    from huggingface_hub import DatasetCardData

    size = next((word for limit, word in SIZES if rows < limit), "n>10M" if rows < 100_000_000 else "n>1T")
    data = DatasetCardData(
        pretty_name=title,
        language=["en"],
        license=licence or "other",
        task_categories=["text-generation"],
        size_categories=[size],
        annotations_creators=["machine-generated"],
        language_creators=["machine-generated"],
        source_datasets=["original"],
        tags=["synthetic", "reasoning", "scalequest"],
    )
    return f"---\n{data.to_yaml()}\n---"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; what its cells hold cannot break it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_line(str(cell)) for cell in line) + " |" for line in lines)


USE = """\
## Use

```python
from datasets import load_dataset

rows = load_dataset(DIRECTORY_OR_NAME, split="train")
```

`prompt` and `completion` are chat messages: TRL's `SFTTrainer(model, train_dataset=rows)` trains on them as they
are, with the loss on the completion alone."""


def _generated(artifacts: RunArtifacts) -> bool:
    """Whether the questions are a model's own; a selection can be made of anybody's."""
    first = [next(stage.rows("generator"), {}) for stage in artifacts.finals]
    return all(row.get("generator") for row in first)


def _origin(artifacts: RunArtifacts) -> str:
    if _generated(artifacts):
        return ", written by language models from scratch: the generator was given nothing but a chat template"
    return "; the questions were given (see their source), the solutions were written by a language model"


def _columns(schema: pa.Schema) -> str:
    kinds = {f.name: "list" if pa.types.is_list(f.type) else str(f.type) for f in schema}
    rows = [[f"`{name}`", kind, ABOUT.get(name, "")] for name, kind in kinds.items()]
    return "## Columns\n\n" + table(["column", "type", "what it is"], rows)


def _models(artifacts: RunArtifacts) -> str:
    """Who made what, by the rows themselves."""
    counts: dict[str, Counter[str]] = {column: Counter() for column, _ in ROLES}
    for row in (row for stage in artifacts.finals for row in stage.rows(*counts)):
        for column, value in row.items():
            if value:
                counts[column][value] += 1
    rows = [
        [role, name, f"{n:,}", licence_of(name, *_paths(artifacts, name))]
        for column, role in ROLES
        for name, n in counts[column].most_common()
    ]
    bases = {str(read_json(s.directory / "model" / "sq.json").get("base") or "") for s in _trained(artifacts)} - {""}
    trained = [f"`{base}` ({licence_of(base)})" for base in sorted(bases) if not base.startswith((".", "/", "outputs"))]
    more = f"\n\nGenerators were trained from {', '.join(trained)}." if trained else ""
    return f"## Models\n\n{table(['role', 'model', 'rows', 'licence'], rows)}{more}" if rows else ""


def _trained(artifacts: RunArtifacts) -> list[StageArtifacts]:
    """The trainings of generators, where it is known that they belong to this run."""
    return artifacts.of("qft", "qpo") if artifacts.recipe else []


def _paths(artifacts: RunArtifacts, name: str) -> list[str]:
    """What the stages of the run call a model beside its name: model=..., model.path=..."""
    told = []
    for stage in artifacts.stages:
        if f"model.name={name}" in stage.overrides or f"model={name}" in stage.overrides:
            told += [o.partition("=")[2] for o in stage.overrides if o.startswith(("model=", "model.path="))]
    return told


def _steps(artifacts: RunArtifacts) -> str:
    chain = chain_of(artifacts, artifacts.finals, steps(artifacts))
    if not chain:
        return ""
    rows = [
        [
            s.stage.name,
            f"{s.entered:,}",
            f"{s.rows:,}",
            f"{s.rejects:,}",
            ", ".join(f"{n:,} {reason}" for reason, n in sorted(s.reasons.items(), key=lambda item: -item[1])) or "–",
        ]
        for s in chain
    ]
    said = (
        "Every rejected row was kept with its reason, so the counts reconcile: in = out + rejects (an answered "
        "question gives several rows, one for each candidate)."
    )
    made = table(["stage", "in", "rows out", "rejects", "rejected because"], rows)
    return f"## How it came about\n\n{made}\n\n{said}"


def _quality(artifacts: RunArtifacts) -> str:
    lines = []
    seen = quality(artifacts.finals, artifacts)
    for by, solvable in seen.solvable.items():
        lines.append(f"Solvable by {by}: {with_interval(solvable)} of {solvable.count:,} questions.")
    for difficulty in seen.difficulty.values():
        lines.append(f"Mean difficulty ({seen.measure}): {with_interval(difficulty, shares=False)}.")
    if right := selected_right(artifacts.finals, artifacts):
        lines.append(
            f"Right answers, where a reference or the oracle tells: {with_interval(right)} of {right.count:,}."
        )
    texts = [
        " ".join(row["question"].casefold().split())
        for stage in artifacts.finals
        for row in stage.sample(MOST, "question")
    ]
    lines.append(f"Questions said twice, case and spaces aside: {len(texts) - len(set(texts)):,} of {len(texts):,}.")
    for column, what in (("question_tokens", "Tokens of a question"), ("response_tokens", "Tokens of a response")):
        rows = (row for stage in artifacts.finals for row in stage.sample(MOST, column))
        values = [row[column] for row in rows if row[column] is not None]
        if values:
            low, middle, high = medians(values)
            lines.append(f"{what}: median {middle:,.0f} (5% to 95%: {low:,.0f} to {high:,.0f}).")
    return "## Quality\n\n" + "\n".join(f"- {line}" for line in lines) + "\n\nIntervals are 95%."


def _overlap(artifacts: RunArtifacts) -> str:
    told = clean(artifacts, artifacts.finals)
    if not told:
        return "## Overlap with benchmarks\n\nNot measured: the run neither filtered by nor evaluated on a benchmark."
    rows = [[o.benchmark, f"{o.problems:,}" if o.problems is not None else "–", o.stage.name, o.told] for o in told]
    made = table(["benchmark", "problems", "against", "clean (95% interval)"], rows)
    said = "Share of a benchmark's problems that no 13 words in a row here are in:"
    return f"## Overlap with benchmarks\n\n{said}\n\n{made}"


def _cost(artifacts: RunArtifacts, rows: int) -> str:
    bill = read_json(artifacts.directory / "bill.json")
    total = bill.get("total")
    if isinstance(total, dict) and isinstance(total.get("gpu_hours"), int | float):
        machine = bill.get("hardware")
        where = f" on {machine.get('name')}" if isinstance(machine, dict) and machine.get("name") else ""
        price = total.get("price")
        money = f", {price:,.2f} {bill.get('currency', 'USD')}" if isinstance(price, int | float) else ""
        return f"## Cost\n\n{total['gpu_hours']:,.3f} hours{where}{money} for {rows:,} rows, trainings included."
    seconds = sum(s.seconds or 0.0 for s in artifacts.stages)
    if not seconds:
        return ""
    return f"## Cost\n\n{seconds:,.0f} seconds over {sum(bool(s.seconds) for s in artifacts.stages)} stages."


def _limits(artifacts: RunArtifacts, licence: str | None) -> str:
    written = "Questions and solutions were" if _generated(artifacts) else "Solutions were"
    lines = [
        f"{written} written by language models; none was checked by a person.",
        "A solution was selected for being the best of its candidates, which does not make it right.",
    ]
    filters = [s for s in artifacts.chain(artifacts.finals) if s.kind == "filter"]
    applied = filters[-1].manifest.config.get("filters", []) if filters and filters[-1].manifest else []
    lines.append(f"Filters that questions passed: {', '.join(applied)}." if applied else "Questions were not filtered.")
    figures = read_stage_metrics(filters[-1].directory).get("figures", {}) if filters else {}
    for key, name in planted_metrics(figures).items():
        sure = f"{percent(figures[f'{key}_low'])} to {percent(figures[f'{key}_high'])}"
        lines.append(f"The solvability judge removes {percent(figures[key])} ({sure}) of {name}.")
    if isinstance(figures.get("oracle/judge_precision"), int | float):
        share = percent(figures["oracle/judge_precision"])
        lines.append(f"Of the questions that the solvability judge removed, the exact oracle calls {share} unsolvable.")
    if "overlap" not in applied:
        lines.append("No filter against benchmark overlap was applied.")
    guard = read_json(artifacts.directory / "report" / "safety.json")
    if guard.get("dataset") == artifacts.dataset:
        counts = guard["counts"]
        unsafe, checked = counts.get("unsafe", 0), sum(counts.values())
        lines.append(f"{guard['model']} flagged {unsafe:,} of {checked:,} rows.")
    else:
        lines.append("No safety model has looked at it.")
    lines.append("What a model writes may repeat what it was trained on, beyond the benchmarks that were compared.")
    if licence is None:
        lines.append("No licence has been chosen for it yet (`sq build --licence`); the models' licences bind as well.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _again(artifacts: RunArtifacts) -> str:
    from sq.report.environment import plain

    lines = [f"Made with sq {__version__}; digest of the rows and their order: `{artifacts.dataset}`."]
    if said := artifacts.recipe.get("command"):
        lines.append(f"Command: `{_line(plain(str(said), artifacts))}`, seed {artifacts.recipe.get('seed', 0)}.")
    return "## Making it again\n\n" + " ".join(lines)


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
