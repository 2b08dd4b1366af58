"""Every evaluation of the run, by benchmark and grader, beside the paper's figures for the same base model."""

from __future__ import annotations

from sq.core.count import count_noun
from sq.core.intervals import share_interval
from sq.eval.paper import BENCHMARKS, SCALEQUEST, base_of, paper_figure
from sq.report.artifacts import RunArtifacts, StageArtifacts
from sq.report.html import Section, details, join, note, table
from sq.report.measure import graded, percent, with_interval


def section(artifacts: RunArtifacts) -> Section | None:
    """The table."""
    rows: list[list[str]] = []
    stages = [stage for stage in artifacts.of("evaluate") if stage.benchmarks]
    for stage in stages:
        base = base_of(*_models(stage))
        for name, scores in stage.benchmarks.items():
            for profile, right in graded(scores).items():
                figure, theirs = share_interval(list(right.values())), paper_figure(base, name)
                rows.append(
                    [
                        stage.name,
                        name,
                        profile,
                        f"{figure.count:,}",
                        with_interval(figure),
                        percent(theirs / 100) + f" ({base})" if theirs is not None else "–",
                    ]
                )
    if not rows:
        return None
    head = ["evaluation", "benchmark", "grader", "problems", "accuracy (95% interval)", "paper"]
    made = table(head, rows, caption="Accuracy of every evaluated model, zero-shot pass@1", words=3)
    paper = table(
        ["model", *BENCHMARKS, "average"],
        [
            [name, *(f"{v:.1f}%" for v in values), f"{sum(values) / len(values):.1f}%"]
            for name, values in SCALEQUEST.items()
        ],
        caption="The paper's students, tuned on its million rows",
    )
    says = (
        f"{count_noun(len(stages), 'evaluation')}, {count_noun(len(rows), 'figure')}; greedy and zero-shot unless the "
        "recipe says otherwise. The paper's figure stands beside ours only for the same base model and benchmark."
    )
    body = join([
        made, details("The paper's figures", paper,
                  note("7B and 8B models on other benchmarks: not to be compared with small models on arithmetic.")),
    ])  # fmt: skip
    return Section(id="benchmarks", title="Benchmarks", says=says, body=body, paper="Table 1")


def _models(stage: StageArtifacts) -> list[str]:
    return [o.partition("=")[2] for o in stage.overrides if o.lstrip("+").startswith(("model", "base="))] or [
        stage.name
    ]
