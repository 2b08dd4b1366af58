"""Sweeps: what stages are tagged for, as a line where the axis counts and as points where it names."""

from html import unescape

from report_run import student

from sq.report.artifacts import RunArtifacts
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
