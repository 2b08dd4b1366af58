"""How far the run's judges can be trusted: their word on planted unsolvable questions, and against the exact oracle.

The filter measures its judge where it is asked to (filters.solvability.measure); select and answers tell how often an
answer is right. All of it stands in the stages' figures.json.
"""

from __future__ import annotations

from sq.core.count import count_noun
from sq.report.artifacts import RunArtifacts
from sq.report.html import Section, join, note, table
from sq.report.measure import percent
from sq.synth.filters.synthetic_negatives import planted_metrics
from sq.synth.stage_metrics import read_stage_metrics

NAMES = {
    "oracle/judge_precision": "judge: of what it removed, unsolvable by the oracle",
    "oracle/judge_recall": "judge: of what the oracle calls unsolvable, removed",
    "oracle/solvable": "solvable by the oracle",
    "answered": "answers with a final answer",
    "cut_off": "answers cut off at the limit",
    "correct": "answers that are right",
    "correct/chosen": "selected answers that are right",
    "correct/random": "all candidates that are right",
    "fail_rate": "mean fail rate of the solver",
}


def section(artifacts: RunArtifacts) -> Section | None:
    """The table."""
    rows = []
    stages = 0
    for stage in artifacts.of("filter", "rewrite", "answers", "select", "fail_rate"):
        figures = read_stage_metrics(stage.directory).get("figures", {})
        told = [(f"judge removes of {name} (planted)", key) for key, name in planted_metrics(figures).items()]
        told += [(NAMES[key], key) for key in NAMES if isinstance(figures.get(key), int | float)]
        stages += bool(told)
        for name, key in told:
            low, high = figures.get(f"{key}_low"), figures.get(f"{key}_high")
            sure = f"{percent(low)} to {percent(high)}" if low is not None and high is not None else "–"
            rows.append([stage.name, name, percent(figures[key]), sure])
    if not rows:
        return None
    made = table(["stage", "figure", "share", "95% interval"], rows, caption="What the stages measured", words=2)
    planted = any("planted" in row[1] for row in rows)
    about = (
        "Planted: questions of the run that the judge was asked about once more, as they came and spoiled on purpose. "
        "How many of those that it removed are unsolvable depends on how many there are, so only an oracle tells it."
    )
    says = (
        f"{count_noun(len(rows), 'figure')} that {count_noun(stages, 'stage')} measured of themselves (figures.json)."
    )
    return Section(
        id="judges",
        title="Judges, solvers and selection",
        says=says,
        body=join([made, note(about)]) if planted else made,
    )
