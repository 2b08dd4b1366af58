"""Benchmarks: what each file gives, which problems are left out and named, and mistakes that end in a message."""

from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmark_files import benchmark, written
from hydra import compose, initialize_config_dir

from sq.core.config import build, conf_dir
from sq.core.errors import ConfigError, RowError
from sq.domains.arithmetic.domain import ArithmeticConfig
from sq.domains.arithmetic.families import FAMILIES, KNOWN
from sq.eval.benchmarks import GradingConfig, ProblemSet, is_number
from sq.eval.checkers import DomainChecker, grader_version
from sq.eval.config import EvalJob
from sq.eval.grader_config import GraderConfig
from sq.eval.run import _request_builder
from sq.sandbox.config import SandboxConfig

GRADING = GradingConfig(profiles=["strict"], grader=GraderConfig(workers=1), sandbox=SandboxConfig())
DATA = Path(__file__).parent.parent.parent.parent / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason="the benchmark files are not on this machine")
ISSUE = {
    "gsm8k", "math", "math500", "college_math", "olympiadbench", "gsm_hard", "aime24", "amc23", "minerva_math",
    "gaokao2023en", "mathchat_followup", "mathchat_correction", "arithmetic",
}  # fmt: skip


def graded(config, problems, given):
    """Whether texts are right, each as the answer to its problem; the grader's version."""
    answers = [
        {"item": item, "prediction": text, "reference": problems.by_id[item]["answer"], "question": "?",
         "prediction_finish_reason": "stop"}
        for text, item in given
    ]  # fmt: skip
    with closing(config.checker(problems, GRADING)) as checker:
        return [grade["strict"]["correct"] for grade in checker.grade(answers)], checker.version


def test_every_benchmark_has_its_yaml_named_as_the_file():
    found = {p.stem for p in (conf_dir() / "benchmark").glob("*.yaml")}
    assert found >= ISSUE
    assert all(benchmark(name).name == name for name in sorted(ISSUE))


@real
@pytest.mark.parametrize(
    ("name", "file", "count", "groups"),
    [
        ("gsm8k", "gsm8k_test.jsonl", 1319, {}),
        ("math", "math_test.jsonl", 5000, {"level": 5, "topic": 7}),
        ("math500", "math500_test.jsonl", 500, {"level": 5, "topic": 7}),
        ("college_math", "college_math_test.jsonl", 2818, {"topic": 7, "source": 9}),
        ("olympiadbench", "olympiadbench_OE_TO_maths_en_COMP.jsonl", 675, {"topic": 4}),
    ],
)
def test_real_files_load_whole_with_every_reference(name, file, count, groups):
    found = benchmark(name, f"path={DATA / file}").load(None, 0)
    rows = found.by_id.values()
    assert len(rows) == count and not found.unusable
    assert all(row["answer"].strip() and row["question"].strip() for row in rows)
    assert {g: len({row[g] for row in rows}) for g in groups} == groups
    if name == "gsm8k":
        assert all(is_number(row["answer"]) for row in rows)
    if name == "olympiadbench":
        assert sorted(row["tolerance"] for row in rows if row["tolerance"] is not None) == ["1e-1"]


@real
def test_a_limit_takes_the_first_problems_and_ids_do_not_depend_on_the_place(tmp_path):
    few = benchmark("gsm8k", f"path={DATA / 'gsm8k_test.jsonl'}").load(5, 0)
    copy = tmp_path / "elsewhere.jsonl"
    copy.write_text("\n".join((DATA / "gsm8k_test.jsonl").read_text().split("\n")[:5]))
    moved = benchmark("gsm8k", f"path={copy}").load(None, 0)
    assert list(few.by_id) == list(moved.by_id) and len(few.by_id) == 5
    assert next(iter(few.by_id.values()))["answer"] == "18"


def test_odd_references_are_left_out_named_and_counted(tmp_path, caplog):
    rows = [
        {"question": "a?", "answer": "Steps.\n#### 1,234"},
        {"question": "b?", "answer": "Steps.\n#### twelve"},
        {"question": "c?", "answer": "no marker at all"},
        {"question": "d?", "answer": ""},
        "{broken",
        {"question": "e?", "answer": "x\n#### -0.5"},
    ]
    found = benchmark("gsm8k", f"path={written(tmp_path, rows)}").load(None, 0)
    assert [r["answer"] for r in found.by_id.values()] == ["1,234", "-0.5"]
    assert sorted(b.reason for b in found.unusable) == ["broken_json", "missing_column", "reference", "reference"]
    assert "gsm8k: 2 of 4 problems are left out: row 2: the reference 'twelve' is no number; row 3:" in caplog.text


def test_math_without_a_box_is_left_out_and_a_file_of_nothing_usable_is_refused(tmp_path, caplog):
    rows = [{"problem": "a?", "solution": "so $\\boxed{\\frac{1}{2}}$."}, {"problem": "b?", "solution": "It is 7."}]
    found = benchmark("math", f"path={written(tmp_path, rows)}").load(None, 0)
    assert [r["answer"] for r in found.by_id.values()] == [r"\frac{1}{2}"] and len(found.unusable) == 1
    assert "row 2: the solution has no answer in a box" in caplog.text
    with pytest.raises(RowError, match="benchmark math has no usable problem: row 1: the solution has no answer"):
        benchmark("math", f"path={written(tmp_path, rows[1:])}").load(None, 0)


@pytest.mark.parametrize(
    ("rows", "name", "message"),
    [
        ([{"question": "a?"}], "x.jsonl", "benchmark gsm8k: x.jsonl has no column 'answer'"),
        ([{"qestion": "a?", "answer": "1\n#### 1"}], "x.jsonl", "did you mean 'qestion'"),
        ([{"question": "a?", "answer": ""}], "x.jsonl", "has no usable row; rejected: 1 missing_column"),
        ([], "x.jsonl", "benchmark gsm8k: .*x.jsonl is empty"),
        ([{"question": "a?", "answer": "1"}], "x.txt", "tells no format that can be read"),
    ],
)
def test_files_that_cannot_be_used_say_why(tmp_path, rows, name, message):
    path = written(tmp_path, rows, name)
    with pytest.raises(RowError, match=message):
        benchmark("gsm8k", f"path={path}").load(None, 0)


@pytest.mark.parametrize("name", ["gsm8k", "mbpp"])
def test_a_file_in_another_encoding_is_read_where_it_is_named(tmp_path, name):
    path = tmp_path / "a.csv"
    path.write_bytes("question,answer,größe\n5 €?,#### 5,é\n".encode("cp1252"))
    with pytest.raises(RowError, match=rf"not UTF-8; .* give benchmark.{name}.encoding=cp1252") as error:
        benchmark(name, f"path={path}").load(None, 0)
    assert "data.encoding" not in str(error.value)
    with pytest.raises(ConfigError, match="encoding='latin-99' is none that Python knows"):
        benchmark(name, f"path={path}", "encoding=latin-99")


def test_the_encoding_reaches_the_reader(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("question,answer\n5 €?,#### 5\n".encode("cp1252"))
    (problem,) = benchmark("gsm8k", f"path={path}", "encoding=cp1252").load(None, 0).by_id.values()
    assert problem["question"] == "5 €?"


def test_a_missing_file_names_the_nearest(tmp_path):
    written(tmp_path, [{}], "gsm8k_test.jsonl")
    with pytest.raises(RowError, match=r"benchmark gsm8k: there is no file .*did you mean .*gsm8k_test\.jsonl"):
        benchmark("gsm8k", f"path={tmp_path}/gsm8k_tset.jsonl").load(None, 0)


def test_mistakes_in_the_config_have_a_message():
    with pytest.raises(ConfigError, match=r"mathchat_followup is on no hub; say where it is: benchmark\.mathchat_fo"):
        benchmark("mathchat_followup").load(None, 0)
    with pytest.raises(ConfigError, match="benchmark.gsm8k.form='gsm' is not one of"):
        build({"name": "gsm8k", "hub": "x/y", "form": "gsm"}, ProblemSet, key="benchmark.gsm8k")
    with pytest.raises(ConfigError, match="groups.subject: groups are level, topic and source"):
        build({"name": "b", "hub": "x/y", "groups": {"subject": "s"}}, ProblemSet)


def test_the_domain_has_held_out_problems_the_same_each_time():
    one, two = (benchmark("arithmetic").load(30, 7) for _ in range(2))
    assert list(one.by_id) == list(two.by_id) and len(one.by_id) == 30
    assert {"steps", "answer", "solution"} <= next(iter(one.by_id.values())).keys()
    assert list(benchmark("arithmetic").load(30, 8).by_id) != list(one.by_id)
    other = benchmark("arithmetic_validation").load(30, 7)
    assert len(other.by_id) == 30 and not set(other.by_id) & set(one.by_id)
    assert benchmark("arithmetic", "split=validation").load(30, 7).digest not in (one.digest, other.digest)
    families = [
        {row["family"] for row in benchmark(b).load(200, 7).by_id.values()} for b in ("arithmetic", "arithmetic_ood")
    ]
    assert len(families[0]) > 10 and families[1] == set(FAMILIES) - set(KNOWN)


@pytest.mark.parametrize(
    ("text", "number"),
    [("72", True), ("-5", True), ("1,234.5", True), ("$80", True), (".5", True), ("5e+16", True), ("50%", True),
     ("twelve", False), ("", False), ("3 and 4", False), ("\\frac{1}{2}", False), ("-", False), ("1,23", False)],
)  # fmt: skip
def test_what_is_a_number(text, number):
    assert is_number(text) is number


def test_a_domains_exact_check_tells_right_from_wrong_and_from_nothing():
    rows = [{"prediction": text, "reference": "15"} for text in (r"So \boxed{15}.", r"So \boxed{16}.", "So fifteen.")]
    grades = [grade["exact"] for grade in DomainChecker({}, ArithmeticConfig().create()).grade(rows)]
    assert [(grade["extracted"], grade["correct"], grade["verdict"]) for grade in grades] == [
        ("15", True, "correct"),
        ("16", False, "wrong"),
        (None, False, "unparsed"),
    ]


@pytest.mark.parametrize(
    ("tolerance", "correct", "mark"),
    [
        ("relative_tolerance=null", [0, 0, 0, 0, 0], ""),
        ("tolerance=0.2", [1, 0, 1, 1, 0], "-atol0.2-rtol0.01"),
        ("split=test", [1, 0, 0, 0, 0], "-rtol0.01"),  # as its YAML has it
        ("relative_tolerance=0.05", [1, 1, 1, 0, 0], "-rtol0.05"),
        ("tolerance=1", [1, 1, 1, 1, 1], "-atol1-rtol0.01"),
        ("tolerance=error", [1, 0, 0, 0, 1], "-rtol0.01-atol-error"),
        ("tolerance=of/m", [1, 0, 1, 1, 0], "-rtol0.01-atol-of%2Fm"),  # part of the name of a directory
        ("relative_tolerance=error", [1, 1, 0, 0, 1], "-rtol-error"),
    ],
)
def test_a_tolerance_of_the_benchmark_reaches_the_grader(tmp_path, tolerance, correct, mark):
    rows = [
        {"question": "g?", "answer": "9.81", "error": 0.1}, {"question": "m?", "answer": "2 \\text{ kg}", "of/m": 0.2},
        {"question": "n?", "answer": "1", "error": "0.5"},
    ]  # fmt: skip
    minerva = benchmark("minerva_math", f"path={written(tmp_path, rows)}", "form=plain", tolerance)
    problems = minerva.load(None, 0)
    g, m, n = problems.by_id
    given = [("9.8", g), ("9.6", g), ("2050 g", m), ("2.2 kg", m), ("1.4", n)]
    assert graded(minerva, problems, given) == (correct, grader_version() + mark), "graded again by another tolerance"


@pytest.mark.parametrize(
    ("reference", "given", "correct"),
    [
        ("$1.0, 5.00$", "1.09, 5.001", True), ("$1.0, 5.00$", "1.001, 5.09", False),
        ("$1.0$, $5.00$", "5.001 and 1.09", True), ("$1.0, 5.00$", "1.09", False), ("$1.0, 5.00$", "1.09, 5, 5", False),
        ("$(1.0, 5.00)$", "(1.09, 5.001)", True), ("$(1.0, 5.00)$", "(5.001, 1.09)", False),
        ("$(1.0, 5.00)$", "(1.001, 5.09)", False),
    ],
)  # fmt: skip
def test_each_value_of_a_reference_may_allow_an_error_of_its_own(tmp_path, reference, given, correct):
    row = {"question": "How fast?", "final_answer": [reference], "error": "1e-1,1e-2", "subfield": "Optics"}
    published = benchmark("olympiadbench_physics_en_comp", f"path={written(tmp_path, [row])}")
    problems = published.load(None, 0)
    (item,) = problems.by_id
    assert graded(published, problems, [(f"\\boxed{{{given}}}", item)])[0] == [correct]


def test_choices_are_listed_in_an_order_of_their_own_and_the_answer_is_a_letter(tmp_path):
    wrong = ["Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"]
    rows = [
        {"Question": f"What is {k} + 1?", "Correct Answer": f" {k + 1} ", "High-level domain": "Physics",
         **{column: str(k - i) for i, column in enumerate(wrong)}}
        for k in range(40)
    ]  # fmt: skip
    rows.append({"Question": "No choice?", "Correct Answer": "1", "Incorrect Answer 1": "2"})
    problems = benchmark("gpqa_diamond", f"path={written(tmp_path, rows)}").load(None, 0)
    assert problems.by_id == benchmark("gpqa_diamond", f"path={written(tmp_path, rows)}").load(None, 0).by_id
    assert [p.detail for p in problems.unusable] == ["row 41: there is no reference answer"]
    letters = [p["answer"] for p in problems.by_id.values()]
    assert set(letters) == set("ABCD")
    for row, problem in zip(rows, problems.by_id.values(), strict=False):
        assert f"\n({problem['answer']}) {row['Correct Answer'].strip()}" in problem["question"]
        assert all(f"({letter}) " in problem["question"] for letter in "ABCD") and problem["topic"] == "Physics"
        assert problem["question"].endswith("\n\nThe final answer is the letter of the right choice.")
    item, problem = next(iter(problems.by_id.items()))
    given = [(f"\\boxed{{{text}}}", item) for text in ("1", "-2", problem["answer"])]
    assert graded(benchmark("gpqa_diamond"), problems, given)[0] == [True, False, True]


@pytest.mark.parametrize(
    ("name", "rows", "outputs"),
    [
        (
            "bbh_logical_deduction",
            [("There are three books. The red one is left of the blue one.\nOptions:\n(A) Red\n(B) Blue", "(A)")],
            {"So the answer is (A).": 1, "A": 1, "(A) Red": 1, "\\boxed{\\text{(A)}}": 1, "So the answer is (B).": 0,
             "So the answer is (A) or (B).": 0},
        ),
        (
            "bbh_web_of_lies",
            [("Question: Ann lies. Bo says Ann tells the truth. Does Bo tell the truth?", "No")],
            {"Bo lies. So the answer is No.": 1, "no": 1, "\\boxed{\\text{No}}": 1, "So the answer is Yes.": 0},
        ),
    ],
)  # fmt: skip
def test_bbh_s_rows_and_what_answers_them(tmp_path, name, rows, outputs):
    file = pa.Table.from_pylist([{"input": question, "target": target} for question, target in rows])
    pq.write_table(file, tmp_path / "test.parquet")
    problems = benchmark(name, f"path={tmp_path / 'test.parquet'}").load(None, 0)
    assert [(p["question"], p["answer"]) for p in problems.by_id.values()] == rows and not problems.unusable
    item = next(iter(problems.by_id))
    answer = {"item": item, "reference": rows[0][1], "question": "?", "prediction_finish_reason": "stop"}
    grading = GradingConfig(profiles=["strict"], grader=GraderConfig(workers=1), sandbox=SandboxConfig())
    with closing(benchmark(name).checker(problems, grading)) as checker:
        grades = checker.grade([{**answer, "prediction": text} for text in outputs])
        assert [grade["strict"]["correct"] for grade in grades] == list(map(bool, outputs.values()))


@pytest.mark.parametrize("variant", ["simple", "hard"])
def test_math_perturb_s_answers_may_be_numbers_or_texts(tmp_path, variant):
    given = [(42, "test"), ("\\frac{1}{2}", "train"), (0.5, "train")]
    shared = {"level": "Level 5", "type": "Algebra"}
    rows = [
        {"problem_id": k, "problem": f"{k}?", "answer": answer, "original_split": split, **shared}
        for k, (answer, split) in enumerate(given)
    ]
    found = benchmark(f"math_perturb_{variant}", f"path={written(tmp_path, rows)}").load(None, 0)
    assert [p["answer"] for p in found.by_id.values()] == ["42", "\\frac{1}{2}", "0.5"] and not found.unusable
    assert [p["source"] for p in found.by_id.values()] == ["test", "train", "train"]


def test_a_context_stands_before_its_question_and_a_tolerance_that_is_none_leaves_the_problem_out(tmp_path, caplog):
    row = {"question": "How fast is it?", "context": None, "final_answer": ["3"], "error": None, "subfield": "Optics"}
    rows = [row, {**row, "context": "A ball falls."}, {**row, "context": " ", "error": "1e-1,1e-1"},
            {**row, "final_answer": ["$3$"], "error": "1e-1,1e-2"}, {**row, "error": "small"}]  # fmt: skip
    published = benchmark("olympiadbench_physics_en_comp", f"path={written(tmp_path, rows)}")
    found = published.load(None, 0)
    asked = [p["question"] for p in found.by_id.values()]
    assert asked == ["How fast is it?", "A ball falls.\nHow fast is it?", "How fast is it?"]
    assert "row 4: the tolerance '1e-1,1e-2' is of 2 values, the reference '$3$' is not" in caplog.text
    assert "row 5: the tolerance 'small' is no number" in caplog.text
    tolerances = published.checker(found, GRADING)._tolerances
    assert list(tolerances.items()) == [(list(found.by_id)[2], (0.1, None))]
    bare = benchmark("olympiadbench_physics_en_comp", f"path={tmp_path / 'problems.jsonl'}", "context=null")
    assert bare.load(None, 0).digest != found.digest, "answers to the question without its context are not kept"


@pytest.mark.parametrize("answer", [r"336^\circ", r"$336^{\circ}$", "336°", "336"])
def test_a_degree_sign_is_no_part_of_a_number(tmp_path, answer):
    path = written(tmp_path, [{"problem": "a?", "answer": answer}])
    assert [p["answer"] for p in benchmark("aime25", f"path={path}").load(None, 0).by_id.values()] == ["336"]


def test_worked_examples_that_a_benchmark_does_not_take_are_named(caplog):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        overrides = ["model=tiny", "benchmark=[arithmetic,gsm8k]", "format=gsm8k_5shot"]
        job = build(compose("evaluate", overrides=overrides), EvalJob)
    for name in ("arithmetic", "gsm8k"):
        _request_builder(job, job.benchmark[name])
    assert [r.getMessage() for r in caplog.records] == [
        "arithmetic has an instruction of its own: it is asked without the worked examples of format=gsm8k_5shot"
    ]
