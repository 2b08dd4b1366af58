"""The code path from seeds to chosen programs: the oracle in the model's place, each program run for its vote."""

import json

from sq.core.ledger import read_manifest, read_rejects, read_rows
from sq.domains.programs.domain import ProgramsDomain

QUESTIONS, SAMPLES = 16, 5


def test_programs_that_do_the_same_outvote_faulty_ones(run, tmp_path):
    settings = ["domain=programs", "input=domain", f"limit={QUESTIONS}", f"stage.n={SAMPLES}", "engine.error_rate=0.4"]
    run("answers", *settings, to="a")
    candidates = list(read_rows(tmp_path / "a"))
    assert len(candidates) == QUESTIONS * SAMPLES
    domain = ProgramsDomain()
    tests = {row["question"]: row["answer"] for row in domain.seeds(QUESTIONS, 0)}

    def right(row):
        answer = row["response_answer"]
        return answer is not None and domain.check(answer, tests[row["question"]])

    drawn = sum(map(right, candidates)) / len(candidates)
    assert 0.4 < drawn < 0.8, "the oracle errs about as often as told"
    assert any(row["response_answer"] is None for row in candidates), "rambling holds no program"

    metrics = run("select", "domain=programs", f"input={tmp_path / 'a'}", "stage.method=majority", to="s")
    chosen = list(read_rows(tmp_path / "s"))
    assert len(chosen) > 0.9 * QUESTIONS and all(row["response_answer"] for row in chosen)
    assert sum(map(right, chosen)) / len(chosen) > drawn + 0.1, "the vote is better than a draw"
    assert read_manifest(tmp_path / "s").rows == len(chosen) and metrics
    rejects = list(read_rejects(tmp_path / "s"))
    assert len(rejects) + len(chosen) == len(candidates) and {r["reason"] for r in rejects} >= {"not_chosen"}


def test_programs_written_in_other_words_vote_together(run, tmp_path):
    (row,) = ProgramsDomain().seeds(1, 7)
    solution = row["solution"]
    (name,) = (json.loads(row["answer"])["function"],)
    other = solution.replace(" return r\n", " found = r\n return found\n").replace("```python", "As asked:\n```python")
    wrong = f"```python\ndef {name}(*given):\n    return 12345\n```"
    source = tmp_path / "candidates.jsonl"
    lines = [{"question": row["question"], "response": text} for text in (wrong, solution, other)]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run("select", "domain=programs", f"input={source}", "stage.method=majority", to="s")
    (chosen,) = read_rows(tmp_path / "s")
    assert chosen["response"] in (solution, other)
