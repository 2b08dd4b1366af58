"""From questions to examples by two workers, each with a vLLM of its own."""

import pytest
from test_killed import content

from sq.core.ledger import read_manifest

pytestmark = [pytest.mark.vllm, pytest.mark.slow]
pytest.importorskip("vllm", reason="vLLM is not installed on this platform")
VLLM = ("engine=vllm", "model=tiny", "part_size=4")


def test_two_workers_filter_answer_and_select_and_the_answers_are_those_of_one(run, tmp_path):
    run("questions", *VLLM, "stage.count=24", "stage.max_tokens=120", to="q")
    run("filter", f"input={tmp_path}/q", "filters=[format,language]", "part_size=4", "workers=2", to="f")
    given = (*VLLM, f"input={tmp_path}/f", "stage.n=2", "stage.max_tokens=100")
    run("answers", *given, "workers=2", to="a")
    run("select", f"input={tmp_path}/a", "stage.method=majority", "part_size=4", "workers=2", to="s")
    q, f, a, s = (read_manifest(tmp_path / name) for name in "qfas")
    assert q.items == 24 and f.items == q.rows and a.items == f.rows == s.items > 4
    assert 2 * f.rows == a.rows == s.rows + s.rejects
    for number in (0, 1):
        assert "vllm" in (tmp_path / "a" / f"engine-{number}.log").read_text().lower()
    run("answers", *given, to="alone")
    assert content(tmp_path / "a") == content(tmp_path / "alone")
