"""Take secrets out of everything that is written down: logs, manifests, errors, tracking.

A secret is known in three ways: by its *value* (an environment variable whose name says so, the password inside a
URL in the environment, or one made known with `remember`), by its *shape* (`sk-...`, `hf_...`, a private key), and by
its *name* (`api_key=...`, `{"password": ...}`, `https://user:password@host`). Names that language models use for other
things (`max_tokens`, `eos_token`, a plain `key`) are left alone.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote

REDACTED = "[redacted]"

_SECRET_ENV = re.compile(
    r"PASSW|PASSPHRASE|SECRET|API_?KEY|CREDENTIAL|PRIVATE_?KEY|KEYS?$|TOKENS?$"
    r"|(^|_)(KEYS?|TOKENS?|PASS|PWD|PAT|AUTH|JWT)(_|$)",
    re.I,
)
_SHAPES = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|(?<![A-Za-z0-9])(?:sk|rk|pk|gsk|xai)[-_](?=[\w-]{0,200}\d)[\w-]{16,}"
    r"|(?<![A-Za-z0-9])(?:hf|api_org|r8|nvapi|pplx|dapi|npm|pypi|glpat|ghp|gho|ghu|ghs|ghr|github_pat)[-_][A-Za-z0-9_-]{16,}"
    r"|(?<![A-Za-z0-9])xox[abeoprs]-[A-Za-z0-9-]{10,}"
    r"|(?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Za-z])"
    r"|(?<![A-Za-z0-9])AIza[A-Za-z0-9_-]{35}"
    r"|(?<![\w-])eyJ[\w-]{8,}+\.eyJ[\w-]{8,}+\.[\w-]+",
    re.S,
)
_URL = re.compile(
    r"(?P<scheme>\b[a-zA-Z][a-zA-Z0-9+.-]{1,30}://)"
    r"(?P<login>[^\s/@:'\"<>?#]+(?::(?:(?!://)[^\s'\"<>])*)?)@(?=[\w\[.\-])"
)
_HEADER = re.compile(
    r"(?i)(authorization[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?:\w{1,20}\s{1,4})?|\bbearer\s{1,4}(?=[\w.~+/=-]{0,300}\d))[\w.~+/=:-]{8,}"
)
_NAMED = re.compile(
    r"(?<![\w.\-])(?P<dashes>--)?(?=[\w.\-]*?(?:passw|passphrase|passcode|pwd|secret|key|token|credential))(?P<name>[\w.\-]++)"
    r"(?P<gap>\\?[\"']?\s{0,4}[=:]\s{0,4}|\s{1,4}(?=[^\s\-=:]))(?P<value>\[redacted\]|\\?\"[^\"\n]*\"|'[^'\n]*'|[^\s\"',;&)}\]]+)",
    re.I,
)

_ALWAYS = set("password passwd passphrase passcode pwd secret secrets credential credentials apikey".split())
_KEY_OF = set(
    "api access private secret signing encryption auth account ssh license subscription service master admin hf "
    "openai anthropic wandb aws azure gcp google".split()
)
_NO_SECRET_AFTER = set("env file path name type len length count size id ids url uri var variable ref".split())
_TOKEN_OF_A_MODEL = set(
    "eos bos pad unk mask sep cls stop start end begin prefix suffix special image audio video first last next prev "
    "per max min num new answer verdict yes no think tool eot eom end_of_turn newline added extra decoder label".split()
)
_PLAIN = {"true", "false", "none", "null", "default", "auto", "yes", "no", "on", "off", "enabled", "disabled"}

_remembered: set[str] = set()


def redact(text: str) -> str:
    """`text` with every secret in it replaced by `[redacted]`."""
    return _redact(text, _known_values())


def redact_tree(value: Any, name: str = "") -> Any:
    """A nested structure of mappings, lists and scalars with its secrets replaced; names decide as well as values."""
    return _tree(value, name, _known_values())


def redact_command(arguments: Iterable[str]) -> list[str]:
    """A command line's words, with the word after `--api-key` and its like replaced too."""
    words: list[str] = []
    previous = ""
    for word in arguments:
        secret = previous.startswith("-") and "=" not in previous and is_secret(previous.lstrip("-"), word)
        words.append(REDACTED if secret else redact(word))
        previous = word
    return words


def is_secret(name: str, value: Any) -> bool:
    """Whether the (dotted) `name` of a setting says that `value` is a secret."""
    parts = _parts(name)
    strong = any(_strong(words) for words in parts)
    if not (strong or parts[-1][-1:] == ["token"]) or value is None or isinstance(value, bool):
        return False
    text = str(value).strip()
    if text.lower() in ("", REDACTED, "none", "null", "true", "false"):
        return False
    return strong or _token(parts[-1], text)


def remember(value: str) -> None:
    """Make a secret known by its value, so that it is taken out wherever it turns up."""
    if len(value) >= 4 and value.lower() not in _PLAIN and value != REDACTED:
        _remembered.add(value)


def remember_named(settings: Mapping[str, Any]) -> None:
    """`remember` every value of a flat config whose name says it is a secret, and the passwords inside its URLs."""
    for name, value in settings.items():
        if is_secret(name, value):
            remember(str(value))
        elif isinstance(value, str):
            for password in _url_passwords(value):
                remember(password)


def contains_secret(data: bytes) -> bool:
    """Whether a file that is no text holds the value of a known secret."""
    known = _known_values()
    return known is not None and known.search(data.decode("utf-8", "replace")) is not None


def _redact(text: str, known: re.Pattern[str] | None) -> str:
    if known is not None:
        text = known.sub(REDACTED, text)
    text = _SHAPES.sub(REDACTED, text)
    if "://" in text:
        text = _URL.sub(lambda m: f"{m['scheme']}{REDACTED}@", text)
    text = _HEADER.sub(lambda m: m[1] + REDACTED, text)
    return _NAMED.sub(_redact_named, text)


def _tree(value: Any, name: str, known: re.Pattern[str] | None) -> Any:
    if isinstance(value, Mapping):
        return {_redact(str(k), known): _tree(v, f"{name}.{k}" if name else str(k), known) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_tree(v, name, known) for v in value]
    if is_secret(name, value):
        return REDACTED
    return _redact(value, known) if isinstance(value, str) else value


@lru_cache(maxsize=4096)
def _parts(name: str) -> list[list[str]]:
    """The words of each component of a dotted name; `apiKey`, `api-key` and `api_key` are the same two words."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return [[w for w in re.split(r"[^a-z0-9]+", part) if w] for part in re.split(r"[./\[\]]+", spaced) if part] or [[]]


def _strong(words: list[str]) -> bool:
    while words and words[-1].isdigit():
        words = words[:-1]
    if not words or words[-1] in _NO_SECRET_AFTER:
        return False
    pairs = zip(words, words[1:], strict=False)
    return bool(_ALWAYS.intersection(words)) or any(b in ("key", "keys") and a in _KEY_OF for a, b in pairs)


def _token(words: list[str], value: str) -> bool:
    """A `..._token` that is no token of a model's vocabulary: `hf_token`, but not `eos_token` or `<|im_end|>`."""
    if len(words) > 1 and words[-2] in _TOKEN_OF_A_MODEL:
        return False
    return len(value) >= 8 and value.isascii() and not re.search(r"[\s<>|\[\]]", value) and not _number(value)


def _number(value: str) -> bool:
    return re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", value, re.I) is not None


def _redact_named(match: re.Match[str]) -> str:
    value = match["value"].strip("\\\"'")
    if not match["gap"].strip("\\\"' \t\n").startswith(("=", ":")) and match["dashes"] is None:
        return match[0]  # prose: "the secret is out"
    if not is_secret(match["name"], value):
        return match[0]
    inside = match["value"].replace(value, REDACTED) if value else match["value"]
    return f"{match['dashes'] or ''}{match['name']}{match['gap']}{inside}"


def _known_values() -> re.Pattern[str] | None:
    named = tuple(
        v for n, v in os.environ.items() if v and ("://" in v or _secret_env(n)) for v in _secret_values(n, v)
    )
    return _pattern(frozenset(named) | _remembered)


@lru_cache(maxsize=1024)
def _secret_env(name: str) -> bool:
    return _SECRET_ENV.search(name) is not None and name != "PWD"


@lru_cache(maxsize=1024)
def _secret_values(name: str, value: str) -> tuple[str, ...]:
    if not _secret_env(name):
        return _url_passwords(value)
    plain = len(value) < 4 or value.lower() in _PLAIN or (value.isdigit() and len(value) < 6)
    is_path = value.startswith(("/", "~", "./")) and Path(value).expanduser().exists()
    return _url_passwords(value) if plain or is_path else (value, *_url_passwords(value))


def _url_passwords(text: str) -> tuple[str, ...]:
    logins = [m["login"] for m in _URL.finditer(text) if ":" in m["login"]] if "://" in text else []
    passwords = [login.partition(":")[2] for login in logins]
    return tuple(v for p in passwords for v in {p, unquote(p)} if len(v) >= 4)


@lru_cache(maxsize=16)
def _pattern(values: frozenset[str]) -> re.Pattern[str] | None:
    """One pattern for all values as they are and as JSON, URLs and `repr` write them; the longest wins."""
    forms = {
        form
        for v in values
        for form in (v, v.strip(), json.dumps(v)[1:-1], json.dumps(v, ensure_ascii=False)[1:-1], repr(v)[1:-1],
                     quote(v), quote(v, safe=""), quote_plus(v))
        if len(form) >= 4
    }  # fmt: skip
    ordered = sorted(forms, key=len, reverse=True)
    parts = [re.escape(f) if len(f) >= 6 else rf"(?<!\w){re.escape(f)}(?!\w)" for f in ordered]
    return re.compile("|".join(parts)) if parts else None
