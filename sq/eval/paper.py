"""The paper's scores, to be printed beside ours: greedy pass@1 in percent (ScaleQuest, arXiv 2410.18693).

Its students are base models tuned on its million rows; a figure stands only beside a run with the same base model.
"""

from __future__ import annotations

import re

BENCHMARKS = ("gsm8k", "math", "college_math", "olympiadbench")
SCALEQUEST: dict[str, tuple[float, float, float, float]] = {
    "Mistral-7B": (88.5, 62.9, 43.5, 26.8),
    "Llama3-8B": (87.9, 64.4, 42.8, 25.3),
    "DeepSeekMath-7B": (89.5, 66.6, 47.7, 29.9),
    "Qwen2-Math-7B": (89.7, 73.4, 50.0, 38.5),
}
"""By base model, in the order of `BENCHMARKS`."""
CODE = {"Qwen2.5-Coder-7B": {"humaneval": 86.6, "mbpp": 83.1, "bigcodebench": 40.0}}
"""The second version's students of code; MBPP's and BigCodeBench's variants are not given."""
_NAMES = {
    "Mistral-7B": r"mistral-?7b",
    "Llama3-8B": r"llama-?3-?8b",
    "DeepSeekMath-7B": r"deepseek-?math-?7b",
    "Qwen2-Math-7B": r"qwen-?2-?math-?7b",
    "Qwen2.5-Coder-7B": r"qwen-?2\.5-?coder-?7b",
}


def base_of(*names: str) -> str | None:
    """Which of the paper's base models is meant by a model's name or path, if any."""
    for name in names:
        plain = re.sub(r"[^a-z0-9.]+", "-", name.lower())
        for base, pattern in _NAMES.items():
            if re.search(rf"(?<![a-z0-9.]){pattern}(?![a-z0-9.])", plain):
                return base
    return None


def paper_figure(base: str | None, benchmark: str) -> float | None:
    """The paper's figure in percent for a base model on a benchmark, where it has one."""
    if base in CODE:
        return CODE[base].get(benchmark)
    if base not in SCALEQUEST or benchmark not in BENCHMARKS:
        return None
    return SCALEQUEST[base][BENCHMARKS.index(benchmark)]
