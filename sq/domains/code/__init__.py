"""Programming problems: answers are Python programs, and tests in the sandbox say whether they are right."""

from sq.domains.code.domain import CodeConfig, CodeDomain

__all__ = ["CodeConfig", "CodeDomain"]
