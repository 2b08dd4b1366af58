"""Sweeps: what stages are tagged for, as a line where the axis counts and as points where it names."""

from dataclasses import replace
from html import unescape

from report_run import student

from sq.core.ledger import Ledger, Reject, WorkItem
from sq.core.rows import ANNOTATED, EXAMPLE, JUDGED
from sq.domains.arithmetic import ArithmeticDomain
from sq.report.ablation import ablation, conditions, record
from sq.report.artifacts import RunArtifacts, StageArtifacts
from sq.report.plots import Plots
from sq.report.sweeps import sweeps


def test_a_sweep_has_its_line_its_seeds_and_its_table(tmp_path):
    stages = [
        student(tmp_path / f"s{size}-{seed}-{name}", [i < size // 100 + seed for i in range(20)],
                figure="data_size", x=f"{size:_}", seed=str(seed), series=name)
        for size in (100, 1000) for seed, name in ((0, "ours"), (1, "ours"), (0, "theirs"))
    ]  # fmt: skip
    stages += [student(tmp_path / n, [True, False], figure="my_prompts", x=n) for n in ("plain", "long")]
    stages.append(student(tmp_path / "other", [True]))
    plots = Plots(directory=tmp_path)
    section = sweeps(RunArtifacts(directory=tmp_path, recipe={}, stages=stages), plots)
    text = unescape(section.body).replace("\u00a0", " ")
    assert section.summary == "2 sweeps of what the result depends on, each number with its 95% interval."
    assert "Accuracy by data size (paper: Figure 1)" in text and "<h3>My prompts</h3>" in text
    assert "ours 1_000 52.5% (" in text, "the figure in words, a mean over its two seeds"
    assert ">1,000</text>" in text and ">plain</text>" in text and text.count(">theirs</text>") == 1
    assert '<th scope="row">ours</th><td class="n">100</td><td class="n">2</td><td class="n">7.5% (' in text
    assert [path.name for path in plots.files] == [
        "data-size-student-s-accuracy-on-b.png", "my-prompts-student-s-accuracy-on-b.png"
    ]  # fmt: skip
    assert sweeps(RunArtifacts(directory=tmp_path, recipe={}, stages=stages[-1:]), plots) is None


def measured(directory, rates, unsolvable, **tags):
    """A filter that measured pass rates and solvability: questions it kept with these fail rates, and rejects."""
    texts = [row["question"] for row in ArithmeticDomain().seeds(len(rates), 7)] + ["Why?"] * unsolvable
    with Ledger.open(directory, schema=JUDGED, config={"stage.name": "filter"}) as ledger:
        for item in ledger.todo(WorkItem(f"{directory.name}-{n}", n) for n in range(len(texts))):
            n, row = item.payload, {"id": item.key, "run": "r", "parents": [], "question": texts[item.payload]}
            if n < len(rates):
                ledger.record(item.key, rows=[row | {"pass_rate": 1 - rates[n], "domain": "arithmetic"}])
            else:
                ledger.record(item.key, rejects=[Reject(row=row, reason="unsolvable", detail="")])
        ledger.finish()
    return StageArtifacts(name=directory.name, kind="filter", directory=directory, tags=tags)


def test_rounds_have_their_share_their_difficulty_their_gains_and_the_round_that_is_kept(tmp_path):
    given = [([0.0] * 10, 10), ([0.5] * 20, 5), ([0.5] * 20, 6)]
    tags = [{"figure": "rounds", "x": str(n), "wanted": "0.5"} for n in range(3)]
    stages = [measured(tmp_path / f"m{n}", *given[n], **tags[n]) for n in (1, 0, 2)]
    plots = Plots(directory=tmp_path)
    section = sweeps(RunArtifacts(directory=tmp_path, recipe={"domain": "arithmetic"}, stages=stages), plots)
    text = unescape(section.body).replace("\u00a0", " ")
    assert "Gain in value, round 1 +0.800 (+0.640 to +0.960), round 2 -0.031 (" in text and "kept is round 1." in text
    for metric, value in (
        ("solvable questions by the judge", "80.0% ("), ("solvable questions by the exact oracle", "80.0% ("),
        ("fail rate of the solver", "50.0% ("), ("solvable × wanted difficulty", "80.0% ("),
    ):  # fmt: skip
        assert (
            f"QPO by round: {metric}" in text
            and f'<td class="n">1</td><td class="n">1</td><td class="n">{value}' in text
        )
    assert len(plots.files) == 5, "steps by the oracle too"


def test_weak_topics_and_the_rest_before_and_after(tmp_path):
    def topics(name, rows, of):
        with Ledger.open(tmp_path / name, schema=ANNOTATED, config={"stage.name": "annotate"}) as ledger:
            for item in ledger.todo(WorkItem(f"{name}-{n}", row) for n, row in enumerate(rows)):
                ledger.record(
                    item.key, rows=[{"id": item.key, "run": "r", "parents": [], "question": "q", **item.payload}]
                )
            ledger.finish()
        return StageArtifacts(
            name=name, kind="annotate", directory=tmp_path / name, tags={"figure": "weak_topics", "of": of}
        )

    practised = [{"topic": "Sets" if n % 2 else "sums", "correct": n % 4 != 3} for n in range(20)]
    tested = [{"topic": "Sets" if n < 10 else "sums", "item": str(n), "correct": True} for n in range(40)]
    stages = [topics("practised", practised, "practised"), topics("tested", tested, "tested")]
    stages += [
        student(tmp_path / name, [n < right or n >= 20 for n in range(40)], figure="weak_topics", series=series)
        for name, series, right in (("a", "before", 2), ("b", "more of weak topics", 8))
    ]
    section = sweeps(RunArtifacts(directory=tmp_path, recipe={}, stages=stages), Plots(directory=tmp_path))
    text = unescape(section.body).replace("\u00a0", " ")
    assert "1 of 2 topics are weak: Sets;" in text
    assert "more of weak topics over before, weak topics: +60.0% (" in text and "the rest: +0.0% (" in text
    for series, group, value in (
        ("before", "weak topics", "20.0%"),
        ("before", "the rest", "66.7%"),
        ("more of weak topics", "weak topics", "80.0%"),
    ):
        assert (
            f'<th scope="row">{series}</th><td class="n">{group}</td><td class="n">1</td><td class="n">{value} ('
            in text
        )


def selected(directory, right, **tags):
    """A selection in which so many of 20 answers are right."""
    with Ledger.open(directory, schema=EXAMPLE, config={"stage.name": "select"}) as ledger:
        for item in ledger.todo(WorkItem(str(n), n) for n in range(20)):
            row = dict.fromkeys(EXAMPLE.names) | {"id": item.key, "run": "r", "parents": [], "question": "q?"}
            row |= {"question_id": item.key, "response": "1", "response_index": 0, "query": "q?", "selected_by": "x"}
            ledger.record(item.key, rows=[row | {"correct": item.payload < right}])
        ledger.finish()
    return StageArtifacts(name=directory.name, kind="select", directory=directory, tags=tags)


def test_best_of_n_stands_in_the_figure_of_the_steps_and_all_steps_together_have_their_change(tmp_path):
    """Each of three seeds gains 2 of 100 problems by each of two steps; seeds lie ten apart."""
    stages = [
        replace(student(tmp_path / f"{name}-{seed}", [i < 20 + 10 * seed + 2 * step for i in range(100)],
                        seed=str(seed)), variant=name)
        for step, name in enumerate(("raw", "+QFT", "+all")) for seed in range(3)
    ]  # fmt: skip
    artifacts, plots = RunArtifacts(directory=tmp_path, recipe={}, stages=stages), Plots(directory=tmp_path)
    body = unescape(ablation(artifacts, plots, conditions(artifacts)).body)
    assert "right answers among those selected" not in body
    assert "raw → +all</b>: student's accuracy up, +4.0 (+" in body, "though seeds differ by more"
    steps = record(conditions(artifacts))["steps"]
    assert [(s["from"], s["to"], round(s["value"], 3)) for s in steps] == [
        ("raw", "+QFT", 0.02), ("+QFT", "+all", 0.02), ("raw", "+all", 0.04)
    ]  # fmt: skip
    tried = [
        selected(tmp_path / f"{series}-{n}", 4 + n * better, figure="best_of_n", x=str(n), series=series)
        for series, better in (("reward model", 2), ("majority", 1)) for n in (1, 4)
    ]  # fmt: skip
    artifacts = replace(artifacts, stages=[*stages, *tried])
    body = unescape(ablation(artifacts, plots, conditions(artifacts)).body)
    assert "right answers among those selected" in body and body.count(">majority</text>") == 1
