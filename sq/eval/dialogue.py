"""MathChat's conversations (arXiv 2405.19444): turns of a user (A:) and an assistant (B:) in one text.

Two of its four tasks have an answer that can be checked. *Error correction*: a question, a wrong answer and a hint are
in the prompt, and the model answers again; the reference is GSM8K's. *Follow-up*: two more questions after the first,
with the model's own replies between them; their references are what the written conversation's assistant found.
"""

from __future__ import annotations

import re
from typing import Any

from sq.core.rows import row_id

_SPEAKER = re.compile(r"(?:^|\n)\s*([AB]):[ \t]*")
_ANSWER = re.compile(r"\\ANSWER\{((?:[^{}]|\{[^{}]*\})*)\}")


def turns_of(row: dict[str, Any], column: str, rounds: int) -> list[dict[str, Any]] | str:
    """The problems in a row's conversation, or what is wrong with it.

    Each has `round` (from 1) and `messages`, what was said before its question; in a follow-up a reply that is the
    model's own is None.
    """
    text = row.get(column)
    if not isinstance(text, str):
        return f"row {row.get('source_row')}: there is no conversation in column '{column}'"
    spoken = conversation(text)
    if rounds == 1:
        if [who for who, _ in spoken[:3]] != ["A", "B", "A"]:
            return f"row {row.get('source_row')}: the conversation is not a question, an answer and a hint"
        given = [{"role": "user", "content": spoken[0][1]}, {"role": "assistant", "content": spoken[1][1]}]
        return [{**row, "question": spoken[2][1], "messages": given, "round": 1}]
    if [who for who, _ in spoken] != ["A", "B"] * (rounds - 1):
        return f"row {row.get('source_row')}: the conversation is not {rounds - 1} questions with their answers"
    problems = [{**row, "messages": [], "round": 1}]
    history = [{"role": "user", "content": row["question"]}]
    for number in range(2, rounds + 1):
        (_, question), (_, reply) = spoken[2 * number - 4 : 2 * number - 2]
        answer = reference_in(reply)
        if not answer:
            return f"row {row.get('source_row')}: the reply to question {number} states no answer"
        history = [*history, {"role": "assistant", "content": None}]
        problems.append(
            {
                **row,
                "id": row_id("round", item=row["id"], round=number),
                "parents": [row["id"]],
                "question": question,
                "answer": answer,
                "solution": reply,
                "messages": history,
                "round": number,
            }
        )
        history = [*history, {"role": "user", "content": question}]
    return problems


def conversation(text: str) -> list[tuple[str, str]]:
    """Who said what: pairs of A or B and a text."""
    pieces = _SPEAKER.split(text)[1:]
    return [(who, said.strip()) for who, said in zip(pieces[::2], pieces[1::2], strict=True)]


def reference_in(reply: str) -> str:
    """The answer that a written reply states: in MathChat's `\\ANSWER{}`, or as any solution states one."""
    from sq.eval.extract import extract

    if marked := _ANSWER.findall(reply):
        return str(marked[-1]).strip()
    return extract(reply).answer.strip()
