"""Secrets are found by value, shape and name; what only looks like one is left alone."""

import json
import re
import string
import subprocess
import sys
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sq.core import secrets
from sq.core.secrets import REDACTED, contains_secret, is_secret, redact, redact_command, redact_tree, remember


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(secrets, "_remembered", set())


@pytest.mark.parametrize(
    "text",
    [
        "api_key=wEIrdo",
        "--api-key wEIrdo --x y",
        "--hub.api_key wEIrdo",
        '{"password": "wEIrdo and more wEIrdo"}',
        "{'client_secret': 'wEIrdo'}",
        '"{\\"apiKey\\": \\"wEIrdo\\"}"',
        "http://user:wEIrdo@host:80/path",
        "https://wEIrdo@host/x",
        "postgresql+psycopg://bob:p@wEIrdo!@db/x",
        "http://u:wEIrdo@a,http://v:wEIrdo@b",
        "https://x.com/v1?lang=de&api_key=wEIrdo&n=1",
        "Authorization: Bearer wEIrdo-wEIrdo",
        "curl -H 'Authorization: Basic dXNlcjp3RUlyZG8wEIrdo='",
        "hf_token=wEIrdowEIrdo",
        "using sk-proj-wEIrdoabcdef0123456789",
        "hf_wEIrdoabcdefghijklmn",
        "ghp_wEIrdoabcdefghijklmn012345",
        "-----BEGIN RSA PRIVATE KEY-----\nwEIrdo\nwEIrdo\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nwEIrdo cut off",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.wEIrdo-x",
    ],
)
def test_secrets_are_found_by_shape_and_by_name(text):
    clean = redact(text)
    assert "wEIrdo" not in clean and REDACTED in clean
    assert redact(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens=512 tokens_per_second: 812.5 num_tokens=3",
        "eos_token='<|im_end|>' pad_token=[PAD] stop_token_ids: [1, 2]",
        "row key: 0123abcd, sort_key=length",
        "the secret number is 5; the key to success: practice",
        "api_key_env=OPENAI_API_KEY password_file=/run/x",
        "engine.api_key: null password=",
        "mail bob@example.com, git@github.com:a/b, https://unpkg.com/x@1.2/y",
        "Basic arithmetic is fun; bearer certificates; task-specific-and-very-long-word-1234567890",
        "Tom has 3 apples (x = 4), so 3 + 4 = \\boxed{7}.",
        "http://127.0.0.1:5000/#/experiments/1",
    ],
)
def test_what_only_looks_like_a_secret_stays(text):
    assert redact(text) == text


@pytest.mark.parametrize(
    "name",
    ["OPENAI_API_KEY", "MLFLOW_TRACKING_PASSWORD", "HF_TOKEN", "PGPASSWORD", "MY_SECRET_2", "AWS_SECRET_ACCESS_KEY"],
)
def test_values_of_secret_variables_go_wherever_they_turn_up(monkeypatch, name):
    value = 'Zq/7 x"\\é%&'
    monkeypatch.setenv(name, value)
    forms = [value, json.dumps(value), json.dumps({"a": value}, ensure_ascii=False), repr(value)]
    forms += [f"?q={urllib.parse.quote(value, safe='')}", urllib.parse.quote_plus(value)]
    for text in forms:
        assert REDACTED in redact(text) and "Zq" not in redact(text), text


def test_variables_whose_values_are_no_secrets_are_left_alone(monkeypatch):
    for name, value in {
        "TOKENIZERS_PARALLELISM": "false",
        "USE_TOKEN": "true",
        "SSL_KEY": "/etc",
        "N_TOKENS": "512",
    }.items():
        monkeypatch.setenv(name, value)
    assert redact("true false /etc 512") == "true false /etc 512"


def test_a_password_in_an_address_of_the_environment_is_known_alone(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgres://bob:s%40fe-word@db/x")
    assert redact("login failed for s@fe-word, s%40fe-word") == f"login failed for {REDACTED}, {REDACTED}"


def test_short_values_go_only_as_whole_words(monkeypatch):
    monkeypatch.setenv("DOOR_PASSWORD", "hunt")
    assert redact("hunt the hunter") == f"{REDACTED} the hunter"


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=6, max_size=40),
    st.text(max_size=50),
    st.text(max_size=50),
)
def test_any_known_value_is_gone_from_any_text(value, before, after):
    secrets._remembered.clear()
    remember(value)
    if value in secrets._remembered and value.strip() == value and value not in REDACTED:
        clean = redact(before + value + after)
        assert value not in clean.replace(REDACTED, "\0")
        assert value not in json.loads(json.dumps(redact_tree({"a": [before + value + after]})))["a"][0].replace(
            REDACTED, "\0"
        )


def test_structures_lose_secrets_by_name_and_by_value(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "planted-value")
    tree = {
        "engine": {"apiKey": 12345, "api_key": None, "url": "http://u:p@h", "max_tokens": 5},
        "credentials": {"user": "bob", "list": ["x"]},
        "rows": [{"text": "has planted-value inside"}, ("planted-value",)],
        "token": "abcdefgh",
        "eos_token": "</s>",
        "planted-value": 1.5,
    }
    assert redact_tree(tree) == {
        "engine": {"apiKey": REDACTED, "api_key": None, "url": f"http://{REDACTED}@h", "max_tokens": 5},
        "credentials": {"user": REDACTED, "list": [REDACTED]},
        "rows": [{"text": f"has {REDACTED} inside"}, [REDACTED]],
        "token": REDACTED,
        "eos_token": "</s>",
        REDACTED: 1.5,
    }


def test_names_decide():
    assert (
        is_secret("engine.openai.api_key", "x") and is_secret("db.password", 1) and is_secret("hub.token", "abcd1234")
    )
    assert not is_secret("engine.api_key_env", "X") and not is_secret("sampling.stop_token", "<|end|>")
    assert not is_secret("stage.key", "question") and not is_secret("password", None) and not is_secret("", "x")


def test_command_lines():
    words = ["train.py", "--api-key", "abc", "engine.api_key=abc", "lr=1e-5", "--token", "abcdefg1", "uri=http://u:p@h"]
    assert redact_command(words) == [
        "train.py", "--api-key", REDACTED, f"engine.api_key={REDACTED}", "lr=1e-5", "--token", REDACTED, f"uri=http://{REDACTED}@h",
    ]  # fmt: skip


def test_binary_files_are_searched_for_known_values():
    remember("planted-value")
    assert contains_secret(b"\x00\xffplanted-value\x01") and not contains_secret(b"\x00\xff")


def test_no_text_makes_it_backtrack():
    """A pattern that backtracks needs hours for these; the child is given up long before."""
    pieces = ["key", "sk-", "-eyJaaaaaaaaa", "x://a:", "a://b:c@", "bearer ", "authorization: ", "key='", "a.b-", "a",
              "-----BEGIN PRIVATE KEY-----"]  # fmt: skip
    program = f"from sq.core.secrets import redact\nfor p in {pieces!r}: print(len(redact(p * (100_000 // len(p)))))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert len(done.stdout.split()) == len(pieces), done.stderr


def test_ordinary_prose_is_untouched():
    prose = " ".join(re.findall(r"[A-Za-z]+", string.ascii_letters * 3)) + " the quick brown fox = 3: jumps"
    assert redact(prose) == prose
