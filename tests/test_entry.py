"""The entry scripts as a person meets them: help, the composed config, mistakes that end in a message and code 2."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from sq.core.ledger import Ledger, WorkItem
from sq.core.quoting import entry_command
from sq.core.rows import QUESTION, fit_row

ROOT = Path(__file__).parent.parent


def run(script, *args, cwd=None):
    command = [sys.executable, str(ROOT / f"{script}.py"), *args]
    return subprocess.run(command, cwd=cwd or ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("script", "key", "more", "domain"),
    [
        ("synthesize", "input", ["stage=select"], "math"),
        ("synthesize", "input", ["stage=select", "domain=arithmetic"], "arithmetic"),
        ("train", "data.input", ["stage=sft"], "math"),
    ],
)
def test_a_command_takes_the_domain_of_the_rows_it_reads(tmp_path, script, key, more, domain):
    with Ledger.open(tmp_path / "a", schema=QUESTION, config={}, inputs={}) as ledger:
        row = {"id": "1", "run": "r", "parents": [], "question": "What is $x$?", "domain": "math"}
        for item in ledger.todo(iter([WorkItem("1", row)])):
            ledger.record(item.key, rows=[fit_row(item.payload, QUESTION)])
        ledger.finish()
    result = run(script, *more, f"{key}={tmp_path / 'a'}", "--cfg", "job")
    assert re.search(rf"^  name: {domain}\b.*name of the domain", result.stdout, re.MULTILINE), result.stderr
    assert (f"domain=math, as the rows of {tmp_path / 'a'} are" in result.stderr) is (len(more) == 1)


@pytest.mark.parametrize(
    ("script", "args", "message"),
    [
        (
            "synthesize",
            ["stage=answers", "input=a", "columns=q"],
            r"columns='q' is not a map: 'columns=\{question: THEIR",
        ),
        ("train", [], "stage= must be given: one of"),
        ("train", ["stage=sfd"], "stage=sfd is not one of .*did you mean 'sft'"),
        ("train", ["stage=sft", "model=tinny"], "model=tinny is not one of .*did you mean 'tiny'"),
        ("train", ["stage=sft", "stage.lr=fast"], r"stage\.lr='fast' is not a number"),
        ("train", ["stage=sft", "stage.lr=-1"], r"stage\.lr=-1\.0 must be above 0"),
        ("train", ["stage=sft", "stage.lrr=1"], r"unknown key 'stage\.lrr' \(value 1\), did you mean 'lr'"),
        (
            "train",
            ["stage=sft", "trainer.precision=fp31"],
            r"trainer\.precision='fp31' is not one of fp32, bf16_mixed, bf16, auto",
        ),
        ("train", ["stage=sft", "modle=tiny"], r"unknown key 'modle' \(value 'tiny'\), did you mean 'model'"),
        ("train", ["stage=sft", "seed=1,2"], "seed=1,2: several values need -m"),
        ("train", ["stage=sft", "model={"], r"model=\{ cannot be read"),
        ("train", ["stage=sft", "engine=hf"], "engine= is no setting of this script"),
        ("train", ["stage=sft", "lr=1"], r"unknown key 'lr' \(value 1\), did you mean 'stage\.lr'"),
        (
            "train",
            ["stage=sft", "trainer.max_steps=5"],
            r"'trainer\.max_steps' \(value 5\), did you mean .*'stage\.max_steps'.*\?",
        ),
        ("train", ["stage=sft", "stage.lr=inf"], r"stage\.lr=inf must be finite"),
        ("train", ["stage=sft", "data.mix={a:", "-1}"], r"-1\} is no option here"),
        ("evaluate", ["--export", "lm-eval"], r"--export is no option .* give it as export=\[lm-eval\]$"),
        ("evaluate", ["--max-tokens=5", "k=[1]"], r"--max-tokens=5 is no option .* give it as max_tokens=5$"),
        ("evaluate", ["--seed", "n=2"], r"give it as seed=VALUE$"),
        ("train", ["stage=sft", "data.input=gone.jsonl"], "there is no file or directory gone.jsonl"),
        ("synthesize", ["stage=answers", "input=gone.jsonl"], "there is no file or directory gone.jsonl"),
        (
            "synthesize",
            ["stage=filter", "filters=[language]", "filters.format.min_chars=1"],
            r"filters\.format is set, but filters=\[\.\.\.\] does not name format",
        ),
        (
            "synthesize",
            ["stage=questions", "stage.generators={tiny: -1}"],
            r"stage\.generators\.tiny=-1\.0 must be above 0",
        ),
        ("train", ["stage=sft", "stage.lr=-1", "seed=x"], "2 problems in the configuration"),
        ("train", ["stage=questions"], "stage=questions is a stage of synthesize.py; here it is one of"),
        ("synthesize", ["stage=questions", "stage.count=0"], r"stage\.count=0 must be at least 1"),
        ("evaluate", ["benchmark=[aritmetic]"], "benchmark=aritmetic is not one of .*did you mean 'arithmetic'"),
        ("synthesize", ["stage=questions", "limit=-3"], r"^error: limit=-3 must be at least 1\n$"),
        ("evaluate", ["n=4"], "n=4 answers with temperature=0 are all the same"),
    ],
)
def test_a_slip_ends_in_one_message(script, args, message, tmp_path):
    done = run(script, *args, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(message, done.stderr), done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "args"), [("train", ["stage=sft"]), ("synthesize", ["stage=questions"]), ("evaluate", [])]
)
def test_help_and_config_read_well(script, args):
    shown = run(script, "--help").stdout
    assert re.search(rf"Usage: \S*python\S* {script}.py", shown) and "model=" in shown and "# random seed" in shown
    config = run(script, *args, "seed=7", "--cfg", "job").stdout
    assert "model:" in config and "output_dir:" in config and "seed: 7" in config


def test_help_is_that_of_the_stage_and_the_overrides_given():
    shown = run("train", "stage=qft", "stage.lr=1e-3", "--help").stdout
    assert "(for stage=qft)" in shown and re.search(r"\n  name: qft", shown) and re.search(r"\n  lr: 0\.001", shown)
    assert "head_lr:" not in shown, "a key of stage=difficulty, which is the first by name"


HEAVY = ("torch", "vllm", "transformers", "mlflow", "lightning", "datasets", "ray", "pandas")


@pytest.mark.parametrize("module", ["sq.train.config", "sq.synth.config", "sq.eval.config", "sq.cli", "sq.core.entry"])
def test_nothing_heavy_is_imported_before_the_config_is_known_to_be_right(module):
    code = f"import sys, {module}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_an_endpoint_without_an_address_is_refused_before_a_bar_is_drawn(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    given = ["stage=answers", "input=domain", "limit=2", "engine=openai", "tracking=none", "output_dir=out"]
    done = run("synthesize", *given, cwd=tmp_path)
    assert done.returncode == 1 and re.fullmatch(r"error: set OPENAI_BASE_URL to .*\n", done.stderr), done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package as its wheel has it: no checkout around it, and what pyproject.toml puts into it."""
    site = tmp_path_factory.mktemp("site")
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for package in wheel["packages"]:
        shutil.copytree(ROOT / package, site / package, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    for source, target in wheel["force-include"].items():
        shutil.copytree(ROOT / source, site / target)
    return site


def test_sq_runs_the_entry_scripts_where_there_is_no_checkout(installed, tmp_path):
    def sq(*words):
        command, environment = [sys.executable, "-m", "sq.cli", *words], {**os.environ, "PYTHONPATH": str(installed)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    assert re.search(r"Usage: .*sq train stage=STAGE", sq("train", "--help").stdout)
    assert "seed: 7" in sq("synthesize", "stage=select", "seed=7", "--cfg", "job").stdout
    wrong = sq("evaluate", "benchmark=[aritmetic]")
    assert wrong.returncode == 2 and "did you mean 'arithmetic'" in wrong.stderr


@pytest.mark.parametrize(("started", "here"), [("train.py", True), ("train.py", False), ("sq", True)])
def test_a_printed_command_works_where_it_is_printed(started, here, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", [started])
    monkeypatch.chdir(ROOT if here else tmp_path)
    words = shlex.split(entry_command("train"))
    assert (words[-1] == "train.py") == (started != "sq" and here), words
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*words, "stage=sfd"], env=environment, capture_output=True, text=True, timeout=120)
    assert "stage=sfd is not one of" in done.stderr, done.stderr


def test_help_lists_the_stages_of_its_own_script(tmp_path):
    (tmp_path / "stage").mkdir()
    (tmp_path / "own_training.py").write_text(
        "from sq.train.pretrain import PretrainStage\nclass Mine(PretrainStage): ...\n"
    )
    (tmp_path / "stage" / "mine.yaml").write_text("_target_: own_training.Mine\nname: mine\nlr: 1.0\n")
    listed = {}
    for script in ("train", "synthesize"):
        command = [sys.executable, str(ROOT / f"{script}.py"), "--config-dir", str(tmp_path), "--help"]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        listed[script] = re.search(r"  stage= +(.*)", done.stdout)[1].split()
    assert "mine" in listed["train"] and "mine" not in listed["synthesize"]
