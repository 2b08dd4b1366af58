"""What a comment under conf/ advises works: commands parse, overrides compose and build, each changes something.

Commands and overrides are found by their form, so a comment that is written tomorrow is checked as well.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sq.cli import COMMANDS
from sq.cli import main as sq
from sq.core.compose import loosened
from sq.core.config import build, conf_dir
from sq.core.config_help import groups, known_keys, stages_of
from sq.core.errors import ConfigError
from sq.recipe.jobs import check
from sq.recipe.load import load_recipe

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = r"(?:sq|python|torchrun|srun|mlflow|hf) "
COMMAND = re.compile(rf"`((?:make |{PROGRAM})[^`]+)`|(?:^ *|: |\()({PROGRAM}[^`)\n]+)", re.M)
LOOKS_LIKE_A_COMMAND = re.compile(r"\bsq (?:run|plan|model|report)\b|\b\w+\.py \w+=")
OVERRIDE = re.compile(
    r"""(?<![\w'"/:.=-])(?:"[\w.@+~-]+=[^"]*"|'[\w.@+~-]+=[^']*'|"""
    r"""[+~]{0,2}[A-Za-z_][\w.@-]*=(?:\[[^\]]*\]|\{[^}]*\}|[^\s,;()`]*))"""
)
KEY = re.compile(
    r"(?<![\w./`-])(?:stage|trainer|data|domain|engine|model|source|filters|tracking)(?:\.[a-z_]+)+(?![\w=@/])"
)
STAGES = {"train": ["sft", "qft"], "synthesize": ["answers", "select", "filter"], "evaluate": [""]}
ERRORS = (ConfigError, HydraException, OmegaConfBaseException)
PACKAGES = {"train": "sq.train", "synthesize": "sq.synth"}


def comments(path: Path) -> list[str]:
    """Its comments; lines of nothing but a comment that follow each other are one."""
    found: list[str] = []
    above = False
    for line in path.read_text(encoding="utf-8").splitlines():
        alone, text = re.match(r"\s*#", line), re.search(r"(?:^|\s)#\s?(.*)$", line)
        if text and alone and above:
            found[-1] += "\n" + text[1]
        elif text:
            found.append(text[1])
        above = bool(alone)
    return found


def advice(comment: str) -> tuple[list[str], list[list[str]], list[str]]:
    """The commands in it, the overrides (those with nothing but a blank between are one line), and keys alone."""
    commands = [a or b for a, b in COMMAND.findall(comment)]
    text = " ".join(re.sub(r"https?://\S+", ";", COMMAND.sub(" ; ", comment)).split())
    assert not LOOKS_LIKE_A_COMMAND.search(text), f"put the command between backticks, or on its own line: {text}"
    overrides: list[str] = []
    end = -2
    for found in OVERRIDE.finditer(text):
        word = found[0] if found[0][-1] in "'\"]}" else found[0].rstrip(".:")
        if found.start() == end + 1:
            overrides[-1] += " " + word
        else:
            overrides.append(word)
        end = found.start() + len(word)
    return commands, [shlex.split(words) for words in overrides], KEY.findall(OVERRIDE.sub("", text))


FILES = {"/".join(path.relative_to(conf_dir()).with_suffix("").parts): path for path in conf_dir().rglob("*.yaml")}
FOUND = {name: [advice(comment) for comment in comments(path)] for name, path in sorted(FILES.items())}
ADVISED = [(name, words) for name, found in FOUND.items() for _, overrides, _ in found for words in overrides]


def test_advice_is_found_by_its_form():
    comment = (
        "Several machines: let.train=nodes \"stages.qft.launch='srun --nodes=4'\", or engine=hf (stage.lr=1e-5).\n"
        "Smaller stage.pack_tokens; 'data.mix={a: 1, b: 2}'. By model= and `sq plan recipe=demo`; see https://a.b/c?d=e\n"
        "python train.py stage=... trainer=nodes"
    )
    assert advice(comment) == (
        ["sq plan recipe=demo", "python train.py stage=... trainer=nodes"],
        [["let.train=nodes", "stages.qft.launch='srun --nodes=4'"], ["engine=hf"], ["stage.lr=1e-5"],
         ["data.mix={a: 1, b: 2}"], ["model="]],
        ["stage.pack_tokens"],
    )  # fmt: skip
    assert len(ADVISED) > 40
    with pytest.raises(AssertionError, match="between backticks"):
        advice("then say sq run recipe=demo")


@pytest.mark.parametrize(("name", "words"), ADVISED, ids=lambda v: v if isinstance(v, str) else " ".join(v))
def test_overrides_build_and_each_changes_something(name, words):
    group, _, option = name.partition("/")
    if any(word.endswith(("=", "=...", "=[...]")) for word in words):
        known = {key for base in bases(group, option, []) for key in [*groups(), *keys(*base)]}
        assert {word.partition("=")[0] for word in words} <= known
        return
    recipe = {"recipe": option, "profile": "demo"}.get(group)
    words = [f"profile={option}", *words] if group == "profile" else words
    makers = [recipe_made(recipe)] if recipe else [job_made(*base) for base in bases(group, option, words)]
    reasons = [idle(made, words) for made in makers]
    assert "" in reasons, f"{name}: {reasons}"


def idle(made, words):
    """Why these overrides do nothing to a command; "" where each of them does something."""
    try:
        whole = made(words)
    except ERRORS as error:
        return str(error)
    for word in words:
        try:
            if made([w for w in words if w != word]) == whole:
                return f"{word} changes nothing"
        except ERRORS:
            pass  # it cannot be left out
    return ""


@pytest.mark.parametrize(("name", "words"), [(n, ws) for n, ws in ADVISED if n.startswith("recipe/")])
def test_every_stage_of_a_recipe_builds_with_its_advice(name, words):
    check(load_recipe(name.partition("/")[2], words).stages)


@pytest.mark.parametrize(("name", "key"), [(n, k) for n, found in FOUND.items() for _, _, ks in found for k in ks])
def test_keys_that_are_named_exist(name, key):
    group, _, option = name.partition("/")
    given = groups() if group != "recipe" else {}
    assert any(key in [*given, *keys(*base)] for base in bases(group, option, []))


@pytest.mark.parametrize(("name", "line"), [(n, c) for n, found in FOUND.items() for cs, _, _ in found for c in cs])
def test_commands_are_what_their_program_takes(name, line, capsys):
    program, *words = shlex.split(re.sub(r"\[(\w+=(?:[^\[\]]|\[[^\]]*\])*)\]", r"\1", line))  # [key=value]: if you like
    script = next((w for w in words if w.endswith(".py")), None)
    if program == "sq":
        assert words[0] in COMMANDS
        if words[0] == "model":
            assert words[1] in groups()["model"]
        elif len(words) > 1:
            sq([*words, "--dry-run"] if words[0] == "run" else words)
            assert capsys.readouterr().out
    elif program == "make":
        assert all(re.search(rf"^{word}:", (ROOT / "Makefile").read_text(), re.M) for word in words)
    elif program == "mlflow":
        from mlflow.cli import cli

        cli.get_command(click.Context(cli), words[0]).make_context(words[0], words[1:])
    elif program == "hf":
        hf = Path(sys.executable).parent / "hf"
        assert subprocess.run([hf, *words, "--help"], capture_output=True).returncode == 0
    else:
        assert script and (ROOT / script).is_file()
        after = words[words.index(script) + 1 :]
        if program == "torchrun":
            from torch.distributed.run import get_args_parser

            assert get_args_parser().parse_args(words[: -len(after)]).training_script == script
        given = [w for w in after if not w.endswith("...") and not w.endswith("[...]")]
        base = (script[:-3], [f"stage={STAGES[script[:-3]][0]}"] if script != "evaluate.py" else [])
        job_made(*base)(given)
        assert {w.partition("=")[0] for w in after} <= {*groups(), *keys(*base)}


@pytest.mark.parametrize("name", ["scalequest-math", "scalequest-simple", "scalequest-code", "long-cot", "magpie"])
def test_a_recipe_that_is_moved_to_one_gpu_asks_for_no_second(name):
    words = next(words for file, words in ADVISED if file == f"recipe/{name}" and "profile=gpu" in words)
    for stage, job in check(load_recipe(name, words).stages).items():
        assert getattr(job, "workers", 1) == 1, f"{stage} has several workers"
        assert not hasattr(job, "trainer") or job.trainer.devices * job.trainer.nodes == 1, (
            f"{stage} has several devices"
        )


def bases(group: str, option: str, words: list[str]) -> list[tuple[str, list[str]]]:
    """The commands that a comment of this file is about: script and overrides."""
    if given := [w.partition("=")[2] for w in words if w.startswith("stage=")]:
        return [(s, []) for s, package in PACKAGES.items() if given[0] in stages_of(package)]
    if group == "stage":
        return [(s, [f"stage={option}"]) for s, package in PACKAGES.items() if option in stages_of(package)]
    if group == "filters":
        return [("synthesize", ["stage=filter", f"filters=[{option}]"])]
    if group in ("benchmark", "format"):
        return [("evaluate", [f"{group}={f'[{option}]' if group == 'benchmark' else option}"])]
    own = [f"{group}={option}"] if option and group != "recipe" else []
    scripts = [group] if group in STAGES else STAGES
    return [(script, [*([f"stage={s}"] if s else []), *own]) for script in scripts for s in STAGES[script]]


def job_made(script, base):
    """`made(words)` -> the job of a command."""

    def made(words):
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return build(compose(script, overrides=[loosened(filled(w)) for w in [*base, *words]]))

    return made


def recipe_made(option):
    """`made(words)` -> the commands of a recipe's stages; that they build is seen below."""

    def made(words):
        return [(stage.launch, stage.overrides) for stage in load_recipe(option, words).stages]

    return made


def keys(script, overrides):
    """Every key of a command, none where it cannot be composed."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            node = compose(script, overrides=[loosened(w) for w in overrides])
        except ERRORS:
            return []
    return known_keys(OmegaConf.to_container(node, resolve=False))


def filled(word: str) -> str:
    """Words in capitals stand for something of one's own: a file, or an option of the group."""
    key, _, value = word.partition("=")
    group = key.lstrip("+").partition("@")[0]
    return f"{key}={groups()[group][0]}" if value == "NAME" and group in groups() else word
