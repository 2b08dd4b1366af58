"""Licences of well-known models, as their cards say, for the dataset's card. Any other model is said to be unknown."""

from __future__ import annotations

import re

LICENCES: tuple[tuple[str, str], ...] = (
    (r"^(package:)?tiny(-base|-new|-qft|-qpo)?$|^package:", "Apache-2.0 (ships with sq)"),
    (r"^\w+-oracle-\d", "a program of sq, no model"),
    (r"qwen-?2(\.5)?-(math|coder)-(1\.5b|7b)", "Apache-2.0"),
    (r"qwen-?2(\.5)?-math-72b", "Qwen licence"),
    (r"skywork-reward-v2-qwen3|qwen-?3-", "Apache-2.0"),
    (r"smollm-?2", "Apache-2.0"),
    (r"r1-distill-qwen", "MIT"),
    (r"deepseek-(math|coder)", "DeepSeek licence (use-based restrictions)"),
    (r"internlm-?2", "code Apache-2.0; weights under InternLM's own terms"),
    (r"llama-?guard-?3", "Llama 3.1 Community Licence"),
    (r"llama-?3\.1", "Llama 3.1 Community Licence"),
    (r"llama-?3(?!\.)", "Llama 3 Community Licence"),
    (r"mistral-7b", "Apache-2.0"),
)
UNKNOWN = "not known here: see the model's card"


def licence_of(*names: str) -> str:
    """The licence of a model by its name or path, the first that is known."""
    for name in names:
        plain = re.sub(r"[\s_]+", "-", name.lower())
        for pattern, licence in LICENCES:
            if re.search(pattern, plain):
                return licence
    return UNKNOWN
