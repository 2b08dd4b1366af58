"""A domain is added by YAML alone: chemistry, in a copy of the project, without touching a file of `sq/`."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from sq.core.config import build, conf_dir
from sq.core.ledger import read_rows
from sq.recipe.assumptions import assumption_names

ROOT = Path(__file__).parents[2]
STAGES = ("core", "models", "data", "engine", "train", "synth", "eval", "recipe", "report", "cli", "doctor")
DOMAINS = {path.stem for path in (ROOT / "conf" / "domain").glob("*.yaml")}
OTHER_MEANINGS = {
    ("data", "math"): "a form of answers, as the data set MATH has them",
    ("eval", "math"): "the benchmark MATH, and that form of answers",
    ("eval", "code"): "a column, and the style of benchmarks that are judged by tests",
}
"""Where the name of a domain is the name of something else."""
QUESTIONS = [("How fast is light, in m/s?", "3.0 \\times 10^8"), ("How many joules are 2 kJ?", "2000")]
DOMAIN = {
    "_target_": "sq.domains.qa.QAConfig",
    "name": "chemistry",
    "benchmarks": ["chemistry_test"],
    "instruction": "Give the number in SI units, in a box.",
    "extract": "boxed",
    "tolerance": 0.01,
    "prompts": {"judge_solvability": "chemistry_judge"},
}
BENCHMARK = {"_target_": "sq.eval.benchmarks.ProblemSet", "name": "chemistry_test", "relative_tolerance": 0.01}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with chemistry in it: a domain, a prompt, a benchmark and their rows."""
    root = tmp_path_factory.mktemp("project")
    for name in ("sq", "conf"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("synthesize.py", "evaluate.py"):
        shutil.copy(ROOT / name, root)
    rows = root / "chemistry.jsonl"
    rows.write_text("".join(json.dumps({"question": q, "solution": f"So \\boxed{{{a}}}"}) + "\n" for q, a in QUESTIONS))
    conf = root / "conf"
    judge = (conf / "prompt" / "judge_solvability.yaml").read_text()
    (conf / "prompt" / "chemistry_judge.yaml").write_text(judge.replace("problem", "problem of chemistry"))
    (conf / "domain" / "chemistry.yaml").write_text(yaml.safe_dump(DOMAIN | {"seeds": {"input": str(rows)}}))
    (conf / "benchmark" / "chemistry_test.yaml").write_text(
        "# @package benchmark.chemistry_test\n" + yaml.safe_dump(BENCHMARK | {"path": str(rows)})
    )
    return root


def command(project, script, *words):
    done = subprocess.run(
        [sys.executable, f"{script}.py", "model=tiny", "engine=hf", "engine.device=cpu", "tracking=none", *words],
        cwd=project, capture_output=True, text=True, env={"PYTHONPATH": str(project), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_stage_and_an_evaluation_of_a_new_subject(project):
    command(project, "synthesize", "stage=answers", "domain=chemistry", "input=domain", "limit=2", "stage.n=1",
            "stage.max_tokens=24", "output_dir=answers")  # fmt: skip
    rows = list(read_rows(project / "answers"))
    assert {(row["question"], row["answer"]) for row in rows} <= set(QUESTIONS) and len(rows) == 2
    assert {row["response_prompt"] for row in rows} == {DOMAIN["instruction"]}
    command(project, "evaluate", "benchmark=[chemistry_test]", "max_tokens=24", "output_dir=scores")
    scores = list(read_rows(project / "scores" / "chemistry_test" / "scores"))
    assert {score["question"] for score in scores} == {question for question, _ in QUESTIONS}


def test_its_prompt_is_what_the_solvability_filter_asks_with(project):
    told = command(project, "synthesize", "stage=filter", "filters=[solvability]", "domain=chemistry", "--cfg", "job")
    assert "chemistry_judge" in told


def test_no_stage_names_a_domain():
    """What differs between domains is asked of the domain: see `sq/domains/base.py`."""
    named = []
    for package in STAGES:
        for path in sorted((ROOT / "sq" / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and node.value in DOMAINS:
                    if (package, node.value) not in OTHER_MEANINGS:
                        named.append(f"{path.relative_to(ROOT)}:{node.lineno} names {node.value}")
                module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
                parts = module.split(".")
                if parts[:2] == ["sq", "domains"] and parts[2:3] not in (["base"], ["oracle"]):
                    if not (path.name.startswith("code") and parts[2] == "code"):  # benchmarks of code read programs
                        named.append(f"{path.relative_to(ROOT)}:{node.lineno} imports {module}")
    assert not named, named


@pytest.mark.parametrize("name", sorted(DOMAINS))
def test_every_domain_says_what_a_plan_may_suppose(name):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("synthesize", overrides=["stage=answers", f"domain={name}"])
    assert build(config.domain).assumptions in assumption_names()
