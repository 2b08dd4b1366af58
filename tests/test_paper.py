"""What is shipped is what the paper and its released scripts used: numbers as a command would take them."""

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from sq.core.config import build, conf_dir

FILTERS = "filters=[language,solvability,duplicates,overlap,difficulty]"
PAPER = {
    ("synthesize", "stage=questions"): {"stage.temperature": 1.0, "stage.top_p": 0.99, "stage.max_tokens": 512},
    ("synthesize", "stage=answers"): {
        "stage.n": 5, "stage.temperature": 0.7, "stage.top_p": 0.95, "stage.max_tokens": 2048,
    },
    ("synthesize", "stage=rewrite"): {"stage.solvability": 0.5},
    ("synthesize", "stage=select"): {"stage.method.value": "reward", "stage.keep_cut_off": False},
    ("synthesize", "stage=filter", FILTERS): {
        "filters.solvability.temperature": 0.0, "filters.solvability.votes": 1, "filters.solvability.max_tokens": 2048,
        "filters.overlap.n": 13, "filters.language.ascii_only": False,
    },
    ("train", "stage=qft"): {
        "stage.lr": 2e-5, "stage.epochs": 1, "stage.schedule.value": "cosine", "stage.warmup": 0.03,
        "stage.weight_decay": 0.0, "stage.beta2": 0.999,
    },
    ("train", "stage=qpo"): {
        "stage.lr": 5e-7, "stage.beta": 0.1, "stage.epochs": 1, "stage.batch_rows": 128, "stage.warmup_steps": 20,
        "stage.schedule.value": "cosine",
    },
    ("train", "stage=sft"): {
        "stage.lr": 5e-5, "stage.epochs": 3, "stage.warmup": 0.03, "stage.schedule.value": "cosine",
        "stage.pack_tokens": 4096, "stage.batch_packs": 64,
    },
    ("evaluate",): {"temperature": 0.0, "n": 1},
}  # fmt: skip


@pytest.mark.parametrize("command", PAPER, ids=lambda command: " ".join(command))
def test_a_command_without_more_settings_takes_the_papers_numbers(command):
    entry, *overrides = command
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        job = build(compose(entry, overrides=overrides))
    found = {}
    for name in PAPER[command]:
        value = job
        for part in name.split("."):
            value = value[part] if isinstance(value, dict) else getattr(value, part)
        found[name] = value
    assert found == PAPER[command]


ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
QUOTED = sorted(set(re.findall(r"`([^`]+)`", PAGE)))


def test_paths_names_and_choices_on_the_page_of_the_paper_are_there():
    """`sq/x.py:Name` is defined there; `recipe=NAME`, `stage=NAME` and the like are files below conf/."""
    missing = []
    for text in QUOTED:
        path, _, name = text.partition(":")
        group, _, option = text.removeprefix("sq plan ").partition("=")
        if path.startswith(("sq/", "conf/", "tests/")):
            source = (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).is_file() else ""
            defined = re.search(rf"^(class |def )?{name}\b", source, re.MULTILINE)
            missing += [] if (ROOT / path).exists() and (not name or defined) else [text]
        elif option and "." not in group and (ROOT / "conf" / group).is_dir():
            missing += [] if (ROOT / "conf" / group / f"{option}.yaml").is_file() else [text]
    assert missing == []
    assert sum(text.startswith("sq/") for text in QUOTED) > 30, "the page names code"


def test_settings_on_the_page_of_the_paper_are_those_of_its_stage():
    """In each row the settings are keys of the command in it, `--cfg job` knows them."""
    table = PAGE.partition("## Sections")[2].partition("## Equations")[0]
    lines = [line.split("|")[2:-1] for line in table.splitlines() if line.startswith("| ")]
    rows = [[re.findall(r"`([^`]+)`", cell) for cell in cells] for cells in lines]
    unknown = []
    for command, _, settings, _ in (row for row in rows if row[2]):
        stage = next((word for word in command if word.startswith("stage=")), None)
        training = stage and stage[6:] in ("qft", "qpo", "difficulty", "sft")
        entry = "evaluate" if command and not stage else "train" if training or not stage else "synthesize"
        words = [stage or "stage=qft"] if entry != "evaluate" else []
        words += [f"filters=[{word[8:]}]" for word in command if word.startswith("filters=")]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            job = build(compose(entry, overrides=words))
        unknown += [(command, key) for key in settings if not _has(job, key)]
    assert unknown == [] and sum(map(len, (row[2] for row in rows))) > 30


def _has(value, key):
    for part in key.split("."):
        if not (part in value if isinstance(value, dict) else hasattr(value, part)):
            return False
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return True
