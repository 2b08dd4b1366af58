"""Without a network the hub's clients are told so at once, and use what they have."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sq.core import hub

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fresh(monkeypatch):
    """No answer of before, no proxy, and the environment put back afterwards."""
    hub.check_hub.cache_clear()
    for name in ("HF_HUB_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(hub, "getproxies", dict)
    yield
    hub.check_hub.cache_clear()


def no_such_name(*_):
    raise socket.gaierror(-2, "Name or service not known")


def test_a_name_that_means_nothing_turns_the_clients_to_their_cache(fresh, monkeypatch, caplog):
    from huggingface_hub import constants, is_offline_mode

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    assert not hub.check_hub()
    assert is_offline_mode() and os.environ["HF_HUB_OFFLINE"] == "1"
    assert not hub.check_hub()
    assert [r.getMessage() for r in caplog.records] == [
        "huggingface.co cannot be reached (Name or service not known): what is in its cache is used"
    ]


def test_a_name_that_means_something_changes_nothing(fresh, monkeypatch):
    asked = []
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example:8080/hub")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a: asked.append(a))
    assert hub.check_hub() and asked == [("mirror.example", 443)] and not os.environ["HF_HUB_OFFLINE"]


def test_behind_a_proxy_the_clients_find_out_for_themselves(fresh, monkeypatch):
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": "http://proxy:3128"})
    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    assert hub.check_hub() and not os.environ["HF_HUB_OFFLINE"]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        pytest.param("train.py stage=qft model=qwen2-math-7b", "hub.invalid cannot be asked", marks=pytest.mark.slow),
        pytest.param("train.py stage=qft data.input=openai/gsm8k", "no dataset of that name", marks=pytest.mark.slow),
        ("synthesize.py stage=questions model.path=a/b engine=hf", "and hub.invalid cannot be asked"),
    ],
)
def test_a_user_without_a_network_gets_a_message_in_seconds(command, reason, tmp_path):
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and k != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": "https://hub.invalid", "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    script, *rest = command.split()
    arguments = [sys.executable, str(ROOT / script), *rest, "tracking=none", f"output_dir={tmp_path / 'out'}"]
    done = subprocess.run(arguments, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and reason in done.stderr.replace("\n", " "), done.stderr
    assert "Retrying" not in done.stderr and "Traceback" not in done.stderr, "it went on trying"
