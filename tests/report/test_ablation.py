"""An ablation without an exact oracle: a judge's word on what it kept itself stands beside no other condition."""

import json
from html import unescape

import pytest
from report_run import composed, stage, write_questions

from sq.core.ledger import read_rejects, read_rows
from sq.core.metrics import shares
from sq.core.yes_no import YesNo
from sq.data.sources import SourceConfig
from sq.domains.arithmetic import ArithmeticDomain
from sq.domains.qa import QAConfig, QADomain
from sq.report import estimates
from sq.report.ablation import conditions, format_ablation
from sq.report.artifacts import find_run
from sq.report.build import build
from sq.report.page import write_report
from sq.synth.config import SynthJob
from sq.synth.filters.synthetic_negatives import SyntheticNegatives
from sq.synth.stage_metrics import read_stage_metrics

pytestmark = pytest.mark.slow

A, B = ["engine.error_rate=0.1"], ["engine.error_rate=0.3"]
KINDS = {"questions": "questions", "answers": "answers", "select": "select"}
VARIANTS = {"questions-raw": "raw", "questions-qft": "+QFT", "filter": "+filter"}


def judged(root, name, source, *more, filters="solvability"):
    """A real stage=filter; the oracle of arithmetic, which errs, is its judge."""
    read = [f"source.mix={source}"] if source.startswith("{") else [f"input={root / source}"]
    said = [*read, f"filters=[{filters}]", f"stage.scores={root / 'scores'}", f"output_dir={root / name}", *more]
    composed("synthesize", SynthJob, ["stage=filter", *said]).run()


def as_mathematics(root, *names):
    """The run with these stages, of a domain that has no oracle for the report to ask."""
    stages = [
        stage(n, KINDS.get(n.partition("-")[0], "filter"), root / n, variant=VARIANTS.get(n),
              reads=["questions-raw", "questions-qft"] if n == "both" else [])
        for n in names
    ]  # fmt: skip
    recipe = {"recipe": "m", "domain": "math", "output_dir": str(root), "stages": stages}
    (root / "recipe.json").write_text(json.dumps(recipe))
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two conditions that judge A has judged whole, and a third that it chose."""
    root = tmp_path_factory.mktemp("run")
    write_questions(root / "questions-raw", 60, 0, 0.6)
    write_questions(root / "questions-qft", 60, 1, 0.2)
    judged(root, "judge-raw", "questions-raw", *A)
    judged(root, "filter", "questions-qft", *A)
    return root


PLAIN = ("questions-raw", "questions-qft", "judge-raw", "filter")


def lines(root):
    said = format_ablation(root).splitlines()
    return {line.split("  ")[0]: line for line in said if line}, [line for line in said if "->" in line]


def test_what_a_filters_own_judge_says_of_what_it_kept_is_no_figure(run):
    rows, changes = lines(as_mathematics(run, *PLAIN))
    assert "by its own judge" in rows["+filter"] and "%" not in rows["+filter"]
    assert rows["raw"].count("%") == rows["+QFT"].count("%") == 3
    assert len(changes) == 1 and changes[0].startswith("raw -> +QFT: solvable share up")
    page = unescape(write_report(run).read_text())
    section = page.split('<section id="ablation"')[1].split("</section>")[0]  # the judges' table is by the oracle
    assert '<td class="n">by its own judge</td>' in section and "100.0%" not in section
    row = json.loads((run / "ablation.json").read_text())["rows"][2]
    assert row["variant"] == "+filter" and row["solvable"] is None and row["judge"] == "by its own judge"


def share(directory):
    said = [row["solvable"] for row in read_rows(directory)]
    said += [json.loads(reject["row"])["solvable"] for reject in read_rejects(directory)]
    return said.count("yes") / len(said)


def test_another_judge_of_the_filters_output_is_told_and_compared_where_it_judged_both(run):
    judged(run, "second", "filter", *B)
    first = conditions(find_run(as_mathematics(run, *PLAIN, "second")))[2]
    assert first.by_its_own == {"solvable": "by its own judge"} and first.metrics["solvable"] is None
    (other,) = first.by_other_labellers.values()
    assert other.value == pytest.approx(share(run / "second")) and other.value < 1
    judged(run, "second-raw", "questions-raw", *B)
    judged(run, "second-qft", "questions-qft", *B)
    root = as_mathematics(run, *PLAIN, "second", "second-raw", "second-qft")
    rows, changes = lines(root)
    names = ("second-raw", "second-qft", "second")
    assert [c.metrics["solvable"].value for c in conditions(find_run(root))] == pytest.approx(
        [share(run / n) for n in names]
    )
    assert "own judge" not in rows["+filter"] and len(changes) == 3 and "+QFT -> +filter: solvable" in changes[1]
    assert changes[2].startswith("raw -> +filter: solvable"), "what all steps together changed"


def test_a_judge_that_reads_what_a_filter_without_a_model_left_counts_for_the_questions_before_it(run):
    judged(run, "distinct", "questions-qft", filters="duplicates")
    judged(run, "after-distinct", "distinct", *B)
    of_qft = conditions(find_run(as_mathematics(run, "questions-qft", "distinct", "after-distinct")))[0]
    assert of_qft.metrics["solvable"].value == pytest.approx(share(run / "after-distinct"))


def test_the_same_judge_counts_where_it_votes_anew(run):
    drawn = ["engine.error_rate=0.1", "filters.solvability.temperature=0.7"]
    judged(run, "greedy", "filter", *A, "seed=5")
    judged(run, "same-seed", "filter", *drawn)
    judged(run, "carried", "filter", "seed=5", filters="language")
    last = conditions(find_run(as_mathematics(run, *PLAIN, "greedy", "same-seed", "carried")))[2]
    assert last.metrics["solvable"] is None and last.by_its_own and not last.by_other_labellers
    judged(run, "anew", "filter", *drawn, "seed=5")
    last = conditions(find_run(as_mathematics(run, *PLAIN, "greedy", "same-seed", "carried", "anew")))[2]
    assert (
        last.metrics["solvable"].value == pytest.approx(share(run / "anew"))
        and last.metrics["solvable"].value < 1
        and not last.by_its_own
    )


def test_a_judge_of_a_mix_tells_each_of_its_sources_apart(run):
    mix = f"{{raw: {{input: {run / 'questions-raw'}}}, qft: {{input: {run / 'questions-qft'}}}}}"
    judged(run, "both", mix, *A)
    whole = conditions(find_run(as_mathematics(run, *PLAIN)))
    mixed = conditions(find_run(as_mathematics(run, "questions-raw", "questions-qft", "both")))
    assert [c.metrics["solvable"] for c in mixed] == [c.metrics["solvable"] for c in whole[:2]]


def test_of_many_questions_kept_and_rejected_ones_are_drawn_alike(run, monkeypatch):
    monkeypatch.setattr(estimates, "MOST", 20)
    found = find_run(as_mathematics(run, *PLAIN))
    (solvable,) = estimates.quality([found.stages[1]], found).solvable.values()
    assert solvable.count == 20, "not 20 of the kept beside all that were rejected"


def test_the_card_says_what_a_judge_removes_and_no_precision_of_a_mix_that_was_planted(run, tmp_path):
    judged(run, "measured", "questions-qft", *A, "filters.solvability.measure=true", "filters.solvability.planted=30")
    for name, source, more in (("answers", "measured", "stage.n=2"), ("select", "answers", "stage.method=majority")):
        said = [f"stage={name}", f"input={run / source}", f"output_dir={run / name}", more]
        composed("synthesize", SynthJob, said).run()
    as_mathematics(run, "questions-qft", "measured", "answers", "select")
    text = (build(run / "select", tmp_path / "dataset") / "README.md").read_text()
    metrics = read_stage_metrics(run / "measured")["figures"]
    limits = text.partition("## Limits")[2]
    assert f"judge removes {metrics['judge/recall']:.1%} (" in limits and "of questions spoiled on purpose" in limits
    assert f"removes {metrics['judge/wrongly_removed']:.1%} (" in limits
    precision = (
        f"Of the questions that the judge removed, the oracle calls {metrics['oracle/judge_precision']:.1%} unsol"
    )
    assert precision in limits and "precision" not in limits and "among those it removes" not in limits


def test_without_an_oracle_what_is_removed_unspoiled_is_no_error():
    math = QADomain(QAConfig(name="math", seeds=SourceConfig(input="domain")))
    planted = SyntheticNegatives(5, math, 0)
    for row in ArithmeticDomain().seeds(9, 0):
        planted.consider(row["question"])
    figures = planted.metrics([*map(YesNo, "yes no yes yes yes no no no no yes".split())])
    assert figures["judge/recall"] == 0.8 and figures["judge/removed_as_they_came"] == 0.2
    assert [m.name for m, *_ in shares("filter", figures)] == ["judge/recall", "judge/removed_as_they_came"]
    earlier = {"judge/recall": 0.8, "judge/wrongly_removed": 0.2, "judge/precision": 0.8}
    assert [m.name for m, *_ in shares("filter", earlier)] == ["judge/recall"], "it took every question for solvable"
