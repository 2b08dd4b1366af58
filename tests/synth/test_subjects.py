"""Physics and logic, subjects by YAML alone: each through its stages and an evaluation, an endpoint as the model."""

import json

import pytest
from hydra import compose, initialize_config_dir
from openai_endpoint import Endpoint

from sq.core.config import build, conf_dir
from sq.core.errors import ConfigError
from sq.core.ledger import read_rejects, read_rows
from sq.core.prompts import Prompt
from sq.eval.config import EvalJob
from sq.synth.config import SynthJob
from sq.synth.filters.solvability import load_prompt

OPENAI = ["engine=openai", "model=gpt-4o-mini", "model.name=m"]
SUBJECTS = {
    "physics": {
        # question, the reference, what the model answers -> whether that is right
        "rows": [
            ("A ball falls for 2 s. How fast is it then?", r"19.6\text{ m/s}", r"\boxed{19.62\text{ m/s}}", True),
            ("What force gives 4 kg 500 m/s^2?", r"2000\text{ N}", r"\boxed{2\text{ kN}}", True),
            ("How far is light in 1 s?", r"3.0 \times 10^8\text{ m}", r"\boxed{2.998 \times 10^8\text{ m}}", True),
            ("How much work do 3 N do along 5 m?", r"15\text{ J}", r"\boxed{15.3\text{ J}}", False),
            ("How long is a wave of 2 Hz at 10 m/s?", r"5\text{ m}", r"\boxed{5\text{ cm}}", False),
            ("What is the mass of 3 litres of water?", r"3\text{ kg}", "It is 3 kg, I think.", None),
        ],
        "instruction": "its SI unit",
        "asked": ("careful physicist", "You teach physics", "physics contests", "field of physics"),
        "topic": "Dynamics",
        "benchmark": ("minerva_math", "question", "answer"),
    },
    "logic": {
        "rows": [
            ("Ann is older than Bob, who is older than Cy. Who is the oldest?", "Ann", r"\boxed{\text{Ann}}", True),
            ("Red is left of blue. (A) red (B) blue. Which is rightmost?", "(B)", r"\boxed{B}", True),
            ("Al says: Bo lies. Bo says: Al lies. How many lie?", "1", "One lies.\nThe answer is one.", True),
            ("Does Eve, who says that all lie, tell the truth?", "No", r"\boxed{Yes}", False),
            ("Which day follows the day after Monday?", "Wednesday", r"\boxed{Tuesday}", False),
            ("Who stands behind Dan in the row Dan, Eli, Flo?", "Eli", "Eli or Flo, hard to say", None),
        ],
        "instruction": "the letter of a choice",
        "asked": ("maker of puzzles", "magazine of logic puzzles", "puzzles for contests", "kind of logic puzzle"),
        "topic": "Ordering",
        "benchmark": ("bbh_logical_deduction", "input", "target"),
    },
}


@pytest.fixture(params=SUBJECTS)
def subject(request, tmp_path, monkeypatch):
    """The subject's name, what is known of it, a file of its problems, and the server that answers as they say."""
    own = SUBJECTS[request.param]
    endpoint = Endpoint()
    judge, improve, harder, topic = own["asked"]

    def say(name, seed):
        question, *_, reply, _ = next(row for row in own["rows"] if row[0] in name)
        if judge in name:
            return "Answer: No" if question == own["rows"][-1][0] else "I see no gap.\nAnswer: Yes"
        if improve in name:
            return (
                f"CREATED QUESTION: {question}\nVERIFICATION AND MODIFICATION: fine\nFINAL QUESTION: {question} Say it."
            )
        if harder in name:
            return ("#Ways to Make It Harder#: x\n#Plan#: y\n#Draft#: z\n"
                    f"#Finally Rewritten Problem#: {question} And explain it at length, with every step.")  # fmt: skip
        if topic in name:
            return f"<TOPIC>{own['topic']}</TOPIC>"
        if "Say what a student has to know" in name:
            return "CONCEPTS:\n- Motion: speed\n- Motion: units"
        if "Estimate how hard" in name:
            return '{"intent": "a number", "knowledge": "motion", "difficulty": "hard"}'
        return reply

    endpoint.say = say
    own = {**own, "endpoint": endpoint}
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{endpoint.port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-private-0123456789")
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a, *_ in own["rows"]))
    yield request.param, own, file
    endpoint.close()


def test_answers_are_graded_as_the_subject_says(run, subject, tmp_path):
    name, own, file = subject
    run("answers", f"domain={name}", f"input={file}", "stage.n=1", *OPENAI, to="a")
    graded = {
        row["question"]: (row["response_answer"] is not None, row["correct"]) for row in read_rows(tmp_path / "a")
    }
    assert graded == {question: (right is not None, bool(right)) for question, *_, right in own["rows"]}
    assert all(own["instruction"] in asked for asked in own["endpoint"].served)


def test_its_prompts_judge_rewrite_and_name_topics(run, subject, tmp_path):
    name, own, file = subject
    words = [f"domain={name}", f"input={file}", *OPENAI]
    run("filter", *words, "filters=[solvability]", f"stage.scores={tmp_path / 's'}", to="f")
    assert [json.loads(r["row"])["question"] for r in read_rejects(tmp_path / "f")] == [own["rows"][-1][0]]
    for direction, share in (("solvability", 1.0), ("difficulty", 0.0)):
        run("rewrite", *words, f"stage.solvability={share}", to=direction)
        assert [row["direction"] for row in read_rows(tmp_path / direction)] == [direction] * 6, list(
            read_rejects(tmp_path / direction)
        )
    metrics = run("annotate", *words, "stage.ask=[topic,concepts,difficulty]", to="t")
    labels = [(row["topic"], row["concepts"], row["rated_difficulty"]) for row in read_rows(tmp_path / "t")]
    assert labels == [(own["topic"], ["Motion: speed", "Motion: units"], 80)] * 6
    assert metrics["concepts"] == 2 and metrics["rated_difficulty"] == 80


def test_its_benchmark_measures_a_student(subject, tmp_path):
    name, own, file = subject
    bench, question, answer = own["benchmark"]
    file.write_text("".join(json.dumps({question: q, answer: a}) + "\n" for q, a, *_ in own["rows"]))
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        words = [*OPENAI, f"benchmark=[{bench}]", f"++benchmark.{bench}.path={file}", "tracking=none",
                 f"++output_dir={tmp_path / 'e'}"]  # fmt: skip
        build(compose("evaluate", overrides=words), EvalJob).run()
    scores = read_rows(tmp_path / "e" / bench / "scores")
    correct = {row["question"]: row["correct"] for row in scores if row["profile"] == "strict"}
    assert {q: correct[q] for q, *_, right in own["rows"] if right is not None} == {
        q: right for q, *_, right in own["rows"] if right is not None
    }


@pytest.mark.parametrize("name", SUBJECTS)
def test_own_seeds_are_asked_for_and_taken(job, name, tmp_path):
    words = ("questions", f"domain={name}", "source=evol", "stage.count=2", *OPENAI, f"output_dir={tmp_path / 'q'}")
    with pytest.raises(ConfigError, match=rf"domain={name} brings no seed problems: .*domain.seeds.input=FILE"):
        job(*words).run()
    file = tmp_path / "seeds.jsonl"
    file.write_text(json.dumps({"question": "Why?", "solution": r"So \boxed{7}"}) + "\n")
    domain = job(*words, f"domain.seeds.input={file}").domain.create()
    assert [(row["question"], row["answer"]) for row in domain.seeds(5, 0)] == [("Why?", "7")]


SOURCES = ("backtranslate", "concepts", "evol", "fewshot", "iqc", "kpmath", "mathscale", "metamath", "orca")


def texts_of(job, name):
    """Every prompt that the stages of a domain ask with, by its source or role."""
    composed = job("questions", f"domain={name}", *OPENAI).domain
    roles = ("extract_concepts", "rate_difficulty", "classify_topic", "judge_solvability", "improve_solvability",
             "raise_difficulty")  # fmt: skip
    prompts = {role: load_prompt(composed.prompts.get(role, role), composed) for role in roles}
    for source in SOURCES:
        asking = job("questions", f"domain={name}", f"source={source}", *OPENAI).stage.source.prompts
        prompts |= {f"{source}.{role}": Prompt(prompt) for role, prompt in asking.items()}
    return {key: prompt.render(**dict.fromkeys(prompt.fields, "")) for key, prompt in prompts.items()}


@pytest.mark.parametrize(("name", "says"), [("physics", "physics"), ("logic", "logic"), ("code", "programming")])
def test_prompts_name_the_subject_and_no_other(job, name, says):
    texts = texts_of(job, name)
    assert [key for key, text in texts.items() if "mathemat" in text.lower()] == []
    named = ("evol.upward", "evol.downward", "iqc.compose", "mathscale.compose", "extract_concepts", "rate_difficulty")
    assert [key for key in named if says not in texts[key]] == []


def test_without_a_subject_it_is_mathematics(job):
    texts = texts_of(job, "math")
    assert texts["evol.upward"].startswith("Below stands a mathematics question. Write a harder version")
    assert texts["rate_difficulty"].startswith("Estimate how hard the mathematics question between")
    assert texts["extract_concepts"].startswith("You plan the lessons of a mathematics course.")
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        own = compose(
            "synthesize", overrides=["stage=questions", "source@stage.source=evol", "domain=math", "~domain.subject"]
        )
    assert (
        Prompt(build(own, SynthJob).stage.source.prompts["upward"]).render(question="", way="") == texts["evol.upward"]
    )
