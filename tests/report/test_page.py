"""The whole page of a small real run: it stands alone, its figures are there, its counts are the manifests'."""

import json
import re
from html.parser import HTMLParser

import pytest

from sq.core.ledger import read_manifest
from sq.recipe.tracked_runs import read_runs
from sq.report import samples
from sq.report.ablation import format_ablation
from sq.report.page import write_report

pytestmark = pytest.mark.slow
LOADS = {"src", "srcset", "href", "xlink:href", "data", "action", "poster", "background", "formaction"}


class Page(HTMLParser):
    """What a browser would load, the ids there are, the tables, and the text."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.loads, self.ids, self.names, self.text, self.cells, self.unnamed = [], [], [], "", [], []
        self._skip = False
        self.feed(page)

    def handle_starttag(self, name, attributes):
        values = dict(attributes)
        self.loads += [(name, v) for k, v in attributes if k in LOADS]
        self.ids += [values["id"]] if "id" in values else []
        self.names.append(name)
        self._skip = name in ("script", "style")
        if name in ("tr",):
            self.cells.append([])
        if name == "svg" and not values.get("aria-labelledby"):
            self.unnamed.append(values)

    def handle_endtag(self, name):
        self._skip = False
        if name == "table":
            self.cells.append([])

    def handle_data(self, data):
        if not self._skip:
            self.text += data
            if self.cells:
                self.cells[-1].append(data)


@pytest.fixture(scope="module")
def written(made):
    """The page, and its text as a browser reads it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(samples, "EACH_REASON", 100)  # all rows are shown, whichever of them the judge errs on
        path = write_report(made, embed="package:tiny-base")
    text = path.read_text(encoding="utf-8")
    return path, text, Page(text)


def test_the_page_loads_nothing(written):
    _, text, page = written
    assert all(value.startswith("#") for _, value in page.loads), page.loads
    assert {value[1:] for _, value in page.loads} <= set(page.ids) and len(page.ids) == len(set(page.ids))
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|<iframe|<object|<link", text)
    assert not page.unnamed and text.count("<script>") == 1 and page.names.count("h1") == 1


def test_text_of_the_rows_is_text(written):
    _, text, page = written
    assert "onerror=alert(1)" in page.text, "the hostile question is shown"
    assert "<img" not in text and "A <small> run" in page.text and "<small> run" not in text
    assert page.text.count("Tom pays $5 and $6") and "<mfrac>" in text


def test_every_section_with_data_is_there_and_says_what_it_is(written):
    _, text, page = written
    for name in ("ablation", "funnel", "difficulty", "sweeps", "benchmarks", "metrics", "topics", "diversity", "map",
                 "overlap", "duplicates", "lengths", "cost", "rows", "reproduction"):  # fmt: skip
        assert name in page.ids, name
    assert "safety" not in page.ids and "trainings" not in page.ids, "what has no data is left out"
    assert "Not shown" not in page.text
    assert "+QFT" in page.text and "the exact oracle" in page.text and "sq run recipe=mini" in page.text


def test_diversity_is_measured_of_equally_many_of_each_set(written):
    _, _, page = written
    head = next(row for row in page.cells if row[:2] == ["questions", "distinct-1"])
    assert head[2:] == ["distinct-2", "distinct-3", "distinct-4", "Vendi score", "new topics"]
    rows = {row[0]: row[1:] for row in page.cells if len(row) == 7 and row[1].endswith("%")}
    assert rows.keys() == {"seeds", "raw", "+QFT", "+filter+reward"}
    assert all(1 < float(row[4]) <= 43 for row in rows.values()) and rows["seeds"][5] == "–"
    assert len({row[4] for row in rows.values()}) == 4 and all(row[5].endswith("%") for row in [*rows.values()][1:])


def test_the_funnel_is_the_manifests(written, made):
    _, _, page = written
    for stage in ("questions-raw", "questions-qft", "filter", "answers", "select"):
        manifest = read_manifest(made / stage)
        entered = read_manifest(made / "answers").rows if stage == "select" else manifest.items
        row = next(row for row in page.cells if row[:2] == [stage, stage] and len(row) == 7)
        assert row[4:7] == [f"{entered:,}", f"{manifest.rows:,}", f"{manifest.rejects:,}"]
        assert all(f"{count:,} {reason}" in row[3] for reason, count in manifest.reasons.items())
    assert "In = out + rejects at every stage." in page.text


def test_a_student_that_solves_more_is_a_gain_and_steps_without_one_are_said_to_have_none(written, made):
    said = format_ablation(made)
    assert re.search(r"raw -> \+QFT: solvable share up, \+\d", said) and "student's accuracy up" in said
    (line,) = [line for line in said.splitlines() if line.startswith("+QFT -> +filter")]
    assert "mean steps no difference shown" in line
    assert all(part in written[2].text for part in line.replace("->", "→").split("; ")[1:])


def test_every_figure_is_a_file_too(written):
    path, text, _ = written
    images = sorted(path.parent.glob("*.png"))
    assert len(images) == text.count("<figure>") >= 7
    assert all(image.read_bytes()[:4] == b"\x89PNG" and image.stat().st_size > 5_000 for image in images)


def test_every_reason_is_among_the_rows(written, made):
    _, text, _ = written
    for stage in ("questions-qft", "filter", "answers", "select"):
        for reason in read_manifest(made / stage).reasons:
            assert f'data-outcome="{reason}" data-stage="{stage}"' in text
    kept = text.count('data-outcome="kept" data-stage="select"')
    assert kept == min(100, read_manifest(made / "select").rows)
    assert "candidates by" in text and "judged solvable: yes" in text


def test_no_path_of_this_machine_is_told(written, made):
    assert str(made.parent) not in written[1]


def test_it_is_logged_to_mlflow(run_copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = json.loads((run_copy / "recipe.json").read_text())
    recipe["tracking"] = {"uri": f"sqlite:///{tmp_path}/ml.db", "experiment": "mini", "run_id": ""}
    recipe["stages"] = recipe["stages"][:2]
    (run_copy / "recipe.json").write_text(json.dumps(recipe))
    path = write_report(run_copy, embed=str(tmp_path / "no-model"), output=tmp_path / "page")
    assert "Not drawn" in path.read_text() and path.parent == tmp_path / "page"
    (run,) = read_runs(f"sqlite:///{tmp_path}/ml.db", "mini")
    assert run["status"] == "FINISHED" and run["tags"]["sq.stage"] == "report"
    logged = {p.name for p in tmp_path.rglob("*") if "artifacts" in p.parts}
    assert {"index.html", "funnel.png", "stages.png"} <= logged


def test_a_run_that_is_going_on_has_a_page_that_says_so(run_copy, tmp_path):
    recipe = json.loads((run_copy / "recipe.json").read_text())
    recipe["stages"] = recipe["stages"][:1] + [
        dict(recipe["stages"][2], status="waiting", output_dir="nowhere", name="next")
    ]
    (run_copy / "recipe.json").write_text(json.dumps(recipe))
    text = write_report(run_copy, output=tmp_path / "page", embed="no/model").read_text()
    assert "This run is not finished: 1 of 2 stages are done. Missing: next." in text
