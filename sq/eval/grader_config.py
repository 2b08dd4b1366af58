"""How answers are graded, as plain values: apart from the grader, which takes a while to import."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sq.core.config import setting


class Profile(StrEnum):
    """Whose rules decide: ours, those of the paper's evaluator (DART-Math), or those of Hugging Face's math-verify."""

    STRICT = "strict"
    DART = "dart"
    MATH_VERIFY = "math-verify"


@dataclass(frozen=True, kw_only=True)
class GraderConfig:
    """How answers are graded."""

    profile: str = setting("strict", choices=[p.value for p in Profile], help="whose rules decide")
    workers: int | None = setting(None, ge=1, help="processes; none: one a core")
    deadline: float = setting(1.5, gt=0, help="seconds a pair may take")
    memory_mb: int = setting(1024, ge=256, help="memory a worker may use")
