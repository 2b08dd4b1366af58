"""Which split a question belongs to: by a hash of its text, so no test question can ever be among the seeds."""

from __future__ import annotations

import hashlib

SPLITS = {"train": range(0, 90), "validation": range(90, 95), "test": range(95, 100)}
"""Share of all questions, in hundredths."""


def split_of(question: str) -> str:
    """The split a question belongs to, whoever wrote it."""
    return split_of_digest(question_digest(question))


def split_of_digest(digest: bytes) -> str:
    """The split of a question with this digest."""
    bucket = digest[0] * 256 + digest[1]
    return next(name for name, buckets in SPLITS.items() if bucket % 100 in buckets)


def question_digest(question: str) -> bytes:
    """A short digest of a question's text."""
    return hashlib.blake2b(question.encode("utf-8", "surrogatepass"), digest_size=8).digest()
