"""Worked examples before the question, for base models: the layout, where they come from, where an answer ends."""

import json

import pytest
from hydra import compose, initialize_config_dir

from sq.core.config import build, conf_dir
from sq.core.errors import ConfigError, RowError
from sq.engine.base import Sampling
from sq.eval.grade import Pair, grade_answer
from sq.eval.prompting import FormatConfig, RequestBuilder
from sq.models.load import ModelConfig, load_tokenizer

TRAIN = [
    {"question": f" What is {i} + 1?", "answer": f"{i} + 1 = <<{i}+1={i + 1}>>{i + 1}\n#### {i + 1}"} for i in range(9)
]


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    path = tmp_path_factory.mktemp("train") / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in TRAIN))
    return path


def builder(random_tiny, *overrides):
    with initialize_config_dir(config_dir=str(conf_dir()), version_base=None):
        node = compose("evaluate", overrides=["engine=oracle", *overrides]).format
    form = build(node, FormatConfig)
    model = ModelConfig(name="tiny", path=str(random_tiny))
    return RequestBuilder(model=model, form=form, sampling=Sampling(temperature=0.0), seed=0)


def source(file, *more):
    return (
        f"format.shots.source.input={file}",
        "++format.shots.source.subset=null",
        "++format.shots.source.split=null",
        *more,
    )


def prompt_of(made, question):
    request = made.request({"id": "p", "question": question})
    tokenizer = load_tokenizer(made.model)
    return tokenizer.decode(request.prompt_ids, skip_special_tokens=True), request


def test_what_the_examples_say_decides_not_the_settings_of_their_source(random_tiny, train, tmp_path):
    made = builder(random_tiny, "format=gsm8k_5shot", *source(train))
    same = builder(random_tiny, "format=gsm8k_5shot", *source(train, "++format.shots.source.seed=3"))
    fewer = builder(random_tiny, "format=gsm8k_5shot", *source(train, "format.shots.count=4"))
    assert made.digest == same.digest != fewer.digest


def test_the_examples_of_gsm8k_are_laid_out_as_lm_evaluation_harness_has_them(random_tiny, train):
    made = builder(random_tiny, "format=gsm8k_5shot", *source(train))
    text, request = prompt_of(made, "What is 50 + 1?\n")
    # its task gsm8k: "Question: {{question}}\nAnswer:" and "{{answer}}", with " " and "\n\n" between them
    shots = "".join(f"Question: {r['question'].strip()}\nAnswer: {r['answer']}\n\n" for r in TRAIN[:5])
    expected = f"{shots}Question: What is 50 + 1?\nAnswer:"
    assert text == load_tokenizer(made.model).decode(
        load_tokenizer(made.model)(expected).input_ids, skip_special_tokens=True
    )
    assert request.stop == ("Question:",)


def test_a_problem_among_the_examples_is_asked_without_that_example(random_tiny, train):
    made = builder(random_tiny, "format=gsm8k_5shot", *source(train))
    text, _ = prompt_of(made, "what is  2 + 1?")
    assert text.lower().count("what is") == 5 and "2 + 1 =" not in text and "3 + 1 =" in text
    asked = ["What is 2 + 1?", "What is 5 + 1?", "WHAT IS 4 + 1?"]  # the sixth row is no example
    assert made.count_examples({"question": question} for question in asked) == 2


def test_any_file_gives_examples_and_what_is_in_it_decides_the_answers(random_tiny, train, tmp_path):
    made = builder(random_tiny, "format=few_shot", *source(train, "format.shots.count=2"))
    assert "".join(text for _, text in made.form.shots.examples()).count("The answer is") == 2
    other = tmp_path / "other.jsonl"
    other.write_text(train.read_text().replace("1 + 1 =", "1 plus 1 ="))
    assert made.digest != builder(random_tiny, "format=few_shot", *source(other, "format.shots.count=2")).digest
    few = builder(random_tiny, "format=few_shot", *source(train, "format.shots.count=12"))
    with pytest.raises(RowError, match="format.shots.count=12: .* has 9 rows"):
        few.request({"id": "p", "question": "?"})
    with pytest.raises(ConfigError, match="say where they are: format.shots.source.input=FILE"):
        builder(random_tiny, "format=few_shot").request({"id": "p", "question": "?"})
    with pytest.raises(ConfigError, match="shots.template has {reason}; an example has question, solution, answer"):
        builder(random_tiny, "format=few_shot", *source(train), "format.shots.template='{question} {reason}'")


def test_minerva_s_four_examples_end_in_answers_that_the_grader_reads(random_tiny):
    made = builder(random_tiny, "format=minerva_4shot")
    text, request = prompt_of(made, "Why?")
    assert request.stop == ("Problem:",) and made.shots == 4
    *examples, asked = text.split("Problem:\n")[1:]
    assert len(examples) == 4 and asked == "Why?\n\nSolution:"
    for example, answer in zip(examples, ["[-1,4)", "15", "2", "1/2"], strict=True):
        assert example.endswith("$. I hope it is correct.\n\n")
        assert grade_answer(Pair(prediction=example, reference=answer)).correct
    line = {"id": "p", "question": made.form.shots.rows[3]["question"].upper()}
    assert made.prompt_text(line).lower().count("the line through") == made.count_examples([line]) == 1


@pytest.mark.parametrize(
    ("override", "error"),
    [
        ("format.shots.count=5", "format.shots.count=5: format.shots.rows has 4 rows with"),
        ("format.shots.rows=[{question: Q, solution: S}]", "row 1 of shots.rows has no answer; it has question"),
        ("++format.shots.source.input=mine.csv", "shots.rows and shots.source.input are both given"),
    ],
)
def test_a_format_s_own_examples_are_as_many_as_it_has(random_tiny, override, error):
    with pytest.raises((RowError, ConfigError), match=error):
        builder(random_tiny, "format=minerva_4shot", override).request({"id": "p", "question": "?"})
