"""Questions with short answers: seeds from files or the hub, stated answers alone, the strict grader as the check."""

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from sq.core.config import build, conf_dir
from sq.core.errors import ConfigError, RowError
from sq.domains.base import Candidates, group_by_answer
from sq.domains.qa import QAConfig

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ROWS = [
    {"question": "What is 1 + 1?", "answer": "One and one.\n#### 2"},
    {"problem": "What is half of 1?", "solution": "It is $\\boxed{\\frac{1}{2}}$.", "level": "Level 1"},
]


def domain(path, **seeds):
    config = {"name": "math", "benchmarks": ["gsm8k", "math"], "seeds": {"input": str(path), **seeds}}
    return build(config, QAConfig).create()


@pytest.fixture(scope="module")
def maths(tmp_path_factory):
    path = tmp_path_factory.mktemp("math") / "seeds.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return domain(path)


def test_the_forms_of_gsm8k_and_math_are_read(maths):
    rows = list(maths.seeds(10, 0))
    assert [(row["question"], row["answer"]) for row in rows] == [
        ("What is 1 + 1?", "2"),
        ("What is half of 1?", "\\frac{1}{2}"),
    ]
    assert rows[0]["solution"] == "One and one." and rows[1]["level"] == "Level 1"
    assert [document.question for document in maths.corpus(1, 0)] == ["What is 1 + 1?"]


def test_seeds_are_few_if_few_are_asked_for_and_other_splits_are_refused(maths):
    assert len(list(maths.seeds(1, 0))) == 1
    with pytest.raises(ConfigError, match="benchmark=\\[gsm8k,math\\]"):
        next(maths.seeds(1, 0, "test"))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So it is \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
        ("#### 72", "72"),
        ("The answer is 5.", "5"),
        ("I get 3 apples and then 4 more", None),
        ("boxed is what I would have it, were it known", None),
        ("", None),
    ],
)
def test_only_a_stated_answer_is_one(maths, text, answer):
    assert maths.final_answer(text) == answer


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("0.5", "\\frac{1}{2}", True),
        ("1,000", "1000", True),
        ("(1, 2)", "(2, 1)", False),
        ("3", "4", False),
        ("}{", "1", False),
        ("__import__('os').system('false')", "1", False),
    ],
)
def test_check_is_the_strict_grader(maths, answer, reference, same):
    assert maths.check(answer, reference) is same


def candidates(*answers):
    return Candidates(question={}, answers=answers, responses=answers)


def grouped_one_by_one(answers, same):
    """What a vote is by definition: each answer joins the first form that it says the same as."""
    forms, keys = [], []
    for answer in answers:
        keys.append(answer if answer in forms else next((form for form in forms if same(answer, form)), answer))
        forms += [answer] if answer not in forms and keys[-1] == answer else []
    return tuple(keys)


VOTES = [
    (["0.5", "1", "\\frac{1}{2}", "1.0", "x"], ("0.5", "1", "0.5", "1", "x")),
    ([], ()),
    (["3"], ("3",)),
    (["2", " 2 ", "2.0", "2", "two"], ("2", "2", "2", "2", "2")),
    (["x=2, x=3", "}{", "(1,2)", "3, 2", "}{", "1/0"], ("x=2, x=3", "}{", "(1,2)", "x=2, x=3", "}{", "1/0")),
]


def test_candidates_are_grouped_by_the_grader_all_questions_together(maths):
    votes = maths.vote_many([candidates(*answers) for answers, _ in VOTES])
    assert [vote.keys for vote in votes] == [keys for _, keys in VOTES]
    assert all(vote.agreement is None for vote in votes)
    for (answers, keys), vote in zip(VOTES, votes, strict=True):
        assert maths.vote(candidates(*answers)) == vote and grouped_one_by_one(answers, maths.check) == keys


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(0, 40), max_size=8), max_size=6))
def test_votes_in_rounds_are_those_of_each_question_alone(questions):
    def close(answer, form):  # neither symmetric nor transitive: order decides
        return int(form) <= int(answer) < int(form) + 5

    texts = [[str(n) for n in numbers] for numbers in questions]
    asked = []

    def check_many(pairs):
        asked.extend(pairs)
        return [close(*pair) for pair in pairs]

    votes = group_by_answer(texts, check_many)
    assert [vote.keys for vote in votes] == [grouped_one_by_one(answers, close) for answers in texts]
    assert len(asked) <= sum(len(set(answers)) * (len(set(answers)) - 1) // 2 for answers in texts)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40))
def test_check_takes_any_text(maths, text):
    assert maths.check(text, text)
    assert maths.check(text, "an answer that nobody gives 91827") is False


def test_the_digest_follows_the_content(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n")
    before = domain(path).digest
    path.write_text(json.dumps(ROWS[0]) + "\n" + json.dumps(ROWS[0] | {"question": "And 2 + 2?"}) + "\n")
    assert domain(path).digest != before


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises((ConfigError, RowError), match=r"nothing\.jsonl"):
        list(domain(tmp_path / "nothing.jsonl").seeds(1, 0))


def test_the_papers_seeds_are_both_training_sets():
    gsm8k, math = DATA / "gsm8k_train.jsonl", DATA / "math_train.jsonl"
    if not gsm8k.exists() or not math.exists():
        pytest.skip("the data sets are not beside the repository")
    files = [f"domain.seeds.mix.{name}.{key}={value}" for name, path in (("gsm8k", gsm8k), ("math", math))
             for key, value in (("input", path), ("split", "null"), ("subset", "null"))]  # fmt: skip
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("synthesize", overrides=["stage=answers", "domain=math", *files])
    rows = list(build(config.domain).create().seeds(20_000, 0))
    assert len(rows) > 14_900 and sum("level" in row for row in rows) > 7_400
    assert all(row["answer"] and row["solution"] for row in rows)


def test_a_subject_is_one_yaml(tmp_path):
    """Physics beside mathematics: its own seeds, name, boxed answers only, and numbers within one per cent."""
    seeds = tmp_path / "physics.jsonl"
    seeds.write_text(json.dumps({"question": "How fast is light, in m/s?", "solution": "So \\boxed{3.0 \\times 10^8}"}))
    yaml = tmp_path / "physics.yaml"
    yaml.write_text(
        "_target_: sq.domains.qa.QAConfig\nname: physics\nbenchmarks: [minerva_math]\nextract: boxed\ntolerance: 0.01\n"
        f"instruction: Give the number in a box.\nseeds: {{input: {seeds}}}\n"
    )
    physics = build(OmegaConf.load(yaml)).create()
    assert [(r["question"][:8], r["answer"]) for r in physics.seeds(5, 0)] == [("How fast", "3.0 \\times 10^8")]
    assert physics.final_answer("The answer is 5.") is None and physics.final_answer("\\boxed{5}") == "5"
    assert physics.check("2.99 \\times 10^8", "3.0 \\times 10^8") and not physics.check("2.9e8", "3.0 \\times 10^8")
    assert physics.check("1005", "1,000") and not physics.check("1011", "1,000") and not physics.check("-1000", "1000")
    with pytest.raises(ConfigError, match="benchmark=\\[minerva_math\\]"):
        next(physics.seeds(1, 0, "test"))


def test_the_last_number_counts_where_it_is_asked_for(tmp_path):
    config = {"name": "x", "seeds": {"input": str(tmp_path)}, "extract": "any"}
    assert build(config, QAConfig).create().final_answer("I get 3 apples and then 4 more") == "4"
