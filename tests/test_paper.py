"""What is shipped is what the paper and its released scripts used: numbers as a command would take them."""

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
