"""`sq determinism`: how far an engine gives the same again."""

from __future__ import annotations

import argparse
from typing import Any


def add(commands: Any) -> None:
    """The sub-command's arguments."""
    parser = commands.add_parser("determinism", help="say how far an engine gives the same again, per number format")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="as for synthesize.py: model=tiny engine=vllm"
    )
    parser.add_argument("--dtype", action="append", help="fp32, bf16, fp16, several times; default: as the job is")
    parser.add_argument("--count", type=int, default=32, help="questions to ask")
    parser.add_argument("--max-tokens", type=int, default=64, help="longest answer")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> None:
    from sq.core.compose import compose
    from sq.core.config import build
    from sq.synth.config import SynthJob
    from sq.synth.determinism import determinism, format_agreements

    overrides = ["stage=answers", "tracking=none", *parsed.overrides]
    job = build(compose("synthesize", overrides, "sq.synth"), SynthJob)
    print(
        format_agreements(list(determinism(job, parsed.dtype or [], count=parsed.count, max_tokens=parsed.max_tokens)))
    )
