"""The oracle as an engine: the prompts of this project in, replies that their own parsers read out."""

import random
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sq.core.config import build
from sq.core.errors import ConfigError
from sq.core.prompts import Prompt, PromptConfig
from sq.core.yes_no import YesNo
from sq.domains.arithmetic import analyse, check, final_answer, problem, unsolvable
from sq.domains.oracle import OracleConfig, OracleEngine, question_in
from sq.engine.base import Engine, Request, Sampling, ScoreRequest

PROMPTS = Path(__file__).parents[2] / "conf" / "prompt"
SOUND = "Tom has 12 apples. He buys 7 more apples. He sells 4 apples. How many apples does Tom have now?"
BROKEN = "Tom has some apples. He buys 7 more apples. How many apples does Tom have now?"


def prompt(name: str) -> Prompt:
    return Prompt(build(OmegaConf.load(PROMPTS / f"{name}.yaml"), PromptConfig))


def ask(engine: Engine, content: str, key: str = "k", seed: int = 1, **sampling: int) -> list[str]:
    request = Request(
        key=key, sampling=Sampling(**sampling), seed=seed, messages=({"role": "user", "content": content},)
    )
    (result,) = engine.generate([request])
    assert result.key == key and result.error is None
    return [completion.text for completion in result.completions]


def reply(name: str, question: str, **config: float | str) -> object:
    asked = prompt(name)
    (text,) = ask(OracleEngine(OracleConfig(**config)), asked.render(question=question))  # type: ignore[arg-type]
    parsed = asked.parse(text)
    assert parsed.ok, (parsed.reason, text)
    return parsed.value


@pytest.mark.parametrize(("question", "answer"), [(SOUND, YesNo.YES), (BROKEN, YesNo.NO), ("Write a poem.", YesNo.NO)])
def test_judge(question: str, answer: YesNo) -> None:
    assert reply("judge_solvability", question) is answer


@pytest.mark.parametrize("question", [SOUND, BROKEN, "Tom has 4 apples. How many pears does Ann have?", "Tom apples"])
def test_improving_solvability(question: str) -> None:
    final = reply("improve_solvability", question)
    assert analyse(str(final)).solvable


@pytest.mark.parametrize("question", [SOUND, BROKEN])
def test_raising_difficulty(question: str) -> None:
    found = analyse(str(reply("raise_difficulty", question)))
    assert found.solvable and found.steps > max(1, analyse(question).steps)


def test_rating_difficulty_grows_with_the_steps() -> None:
    rng = random.Random(1)
    scores = [reply("rate_difficulty", problem(rng, low=n, high=n).question) for n in (1, 2, 3, 4, 5)]
    assert scores == [20, 40, 60, 80, 100]


def test_classifying_the_topic() -> None:
    assert reply("classify_topic", SOUND) == "Arithmetic"
    assert (
        reply("classify_topic", "The room is 4 meters long and 3 meters wide. What is the area of the room?")
        == "Geometry"
    )


def test_solving() -> None:
    (text,) = ask(OracleEngine(), prompt("answer").render(question=SOUND))
    assert final_answer(text) == "15"
    assert ask(OracleEngine(OracleConfig(role="solve")), SOUND) == [text]


def test_a_solver_guesses_where_there_is_no_answer() -> None:
    (text,) = ask(OracleEngine(OracleConfig(role="solve")), BROKEN)
    assert final_answer(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        SOUND,
        f"Between <question> and </question> stands it.\n<question>\n{SOUND}\n</question>\nReply.",
        f"Look at this.\nQuestion:\n{SOUND}",
        f"An example problem:\nWhat is 1 + 1?\n**Problem:**\n{SOUND}",
        f"{SOUND}\nPut your final answer within \\boxed{{}}.",
    ],
)
def test_the_question_is_found_in_a_prompt(text: str) -> None:
    assert question_in(text) == SOUND


def test_equal_requests_get_equal_replies_and_others_differ() -> None:
    engine = OracleEngine(OracleConfig(role="raise_difficulty"))
    again = OracleEngine(OracleConfig(role="raise_difficulty"))
    assert ask(engine, SOUND, n=3) == ask(again, SOUND, n=3)
    assert len({*ask(engine, SOUND, n=3), *ask(engine, SOUND, seed=2), *ask(engine, SOUND, key="other")}) >= 4


def test_a_reply_longer_than_allowed_is_cut_and_says_so() -> None:
    request = Request(key="k", sampling=Sampling(max_tokens=5), seed=1, messages=({"role": "user", "content": SOUND},))
    (result,) = OracleEngine(OracleConfig(role="solve")).generate([request])
    assert result.completions[0].finish_reason == "length"
    assert result.completions[0].text == "Tom has 12 + 7"


def test_requests_are_served_one_by_one() -> None:
    served = []

    def requests():  # type: ignore[no-untyped-def]
        for i in range(3):
            served.append(i)
            yield Request(key=str(i), sampling=Sampling(), seed=1, messages=({"role": "user", "content": SOUND},))

    stream = OracleEngine(OracleConfig(role="judge")).generate(requests())
    next(stream)
    assert served == [0]


def test_token_ids_are_an_error_of_the_request_alone() -> None:
    engine = OracleEngine()
    bad = Request(key="bad", sampling=Sampling(), seed=1, prompt_ids=(1, 2))
    good = Request(key="good", sampling=Sampling(), seed=1, messages=({"role": "user", "content": SOUND},))
    first, second = engine.generate([bad, good])
    assert first.error is not None and "chat messages" in first.error and not first.completions
    assert second.error is None


def within(errors: int, count: int, rate: float) -> bool:
    """Five standard deviations of the binomial: a sound engine fails once in a million runs."""
    return abs(errors - count * rate) <= 5 * (count * rate * (1 - rate)) ** 0.5


@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_the_judge_errs_as_often_as_told(rate: float) -> None:
    rng, asked = random.Random(2), prompt("judge_solvability")
    engine = OracleEngine(OracleConfig(role="judge", error_rate=rate))
    questions = [problem(rng).question for _ in range(300)] + [
        unsolvable(problem(rng).question, rng)[0] for _ in range(300)
    ]
    outcomes = []
    for i, question in enumerate(questions):
        (text,) = ask(engine, asked.render(question=question), key=str(i))
        answer = asked.yes_no(text, "stop")
        right = YesNo.YES if analyse(question).solvable else YesNo.NO
        outcomes.append("unparsable" if answer is YesNo.UNPARSABLE else answer is right)
    assert within(600 - outcomes.count(True), 600, rate)
    assert within(outcomes.count("unparsable"), 600, rate / 4)


def test_the_solver_errs_as_often_as_told_and_never_by_chance_is_right() -> None:
    rng = random.Random(3)
    engine = OracleEngine(OracleConfig(role="solve", error_rate=0.3))
    wrong = 0
    for i in range(150):
        one = problem(rng)
        texts = ask(engine, one.question, key=str(i), n=4)
        wrong += sum(not check(final_answer(text) or "", one.answer) for text in texts)
    assert within(wrong, 600, 0.3)


@pytest.mark.parametrize("role", ["improve_solvability", "raise_difficulty"])
def test_a_failed_rewrite_is_unreadable_unchanged_or_broken(role: str) -> None:
    asked, rng = prompt(role), random.Random(4)
    engine = OracleEngine(OracleConfig(error_rate=1.0))
    seen = set()
    for i in range(60):
        question = problem(rng, low=2).question
        parsed = asked.parse(ask(engine, asked.render(question=question), key=str(i))[0])
        if not parsed.ok:
            seen.add("unreadable")
        else:
            seen.add("unchanged" if parsed.value == question else f"solvable: {analyse(str(parsed.value)).solvable}")
    assert seen == {"unreadable", "unchanged", "solvable: False"}


def score(engine: OracleEngine, question: str, answer: str, key: str = "k") -> float:
    messages = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    (result,) = engine.score([ScoreRequest(key=key, messages=messages)])
    assert result.score is not None
    return result.score


def test_scores_put_the_right_answer_first() -> None:
    engine = OracleEngine()
    right, wrong, none = (score(engine, SOUND, t) for t in (r"So \boxed{15}.", r"So \boxed{16}.", "So fifteen."))
    assert right == 1.0 > wrong > none >= 0
    assert score(engine, BROKEN, r"\boxed{15}") < 0.7
    assert score(engine, prompt("answer").render(question=SOUND), r"\boxed{15}") == 1.0


def test_scores_err_as_often_as_told() -> None:
    engine = OracleEngine(OracleConfig(error_rate=0.2))
    wrong = sum(score(engine, SOUND, r"\boxed{15}", key=str(i)) < 1 for i in range(500))
    assert within(wrong, 500, 0.2)


def test_a_score_without_an_answer_is_an_error() -> None:
    (result,) = OracleEngine().score([ScoreRequest(key="k", messages=({"role": "user", "content": SOUND},))])
    assert result.score is None and "assistant" in (result.error or "")


def test_the_fingerprint_tells_what_decides_the_replies() -> None:
    one, other = OracleEngine(), OracleEngine(OracleConfig(error_rate=0.1))
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint == OracleEngine().fingerprint


def test_a_wrong_role_or_rate_is_told() -> None:
    node = {"_target_": "sq.domains.oracle.OracleConfig", "role": "juge", "error_rate": 2}
    with pytest.raises(ConfigError, match="did you mean 'judge'") as error:
        build(node)
    assert "error_rate=2.0 must be at most 1" in str(error.value)
