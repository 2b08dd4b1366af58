"""What a chat template puts around the user's and the assistant's text, by rendering it.

A template is a program, so it is not read but run: on short known texts, whose places in the result show what comes
before and after them. Two different texts must give the same surroundings, else the template cannot be split.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sq.core.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# One word, and two lines of another length: a template that measures, escapes or repeats the text is caught.
USER_TEXTS = ("qzuserqz", "qzsecond user textqz\nof 2 lines")
ASSISTANT_TEXT = "qzassistantqz"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """The texts around one exchange: before + user + opening + lead + assistant + closing.

    `after` is what follows the user's text when no answer is asked for (`opening` then adds the assistant's header);
    `lead` is what a trained answer starts with beyond the generation prompt (a space, an empty think block).
    """

    before: str
    after: str
    opening: str
    lead: str
    closing: str


def split_template(tokenizer: PreTrainedTokenizerFast, *, system: str | None, thinking: bool | None, date: str) -> Turn:
    """Derive the texts around an exchange from the tokenizer's chat template.

    Raises:
        ConfigError: naming what is wrong with the template; the caller adds how to fix it.
    """
    if not tokenizer.chat_template:
        raise ConfigError(f"the tokenizer '{tokenizer.name_or_path}' has no chat template")
    options: dict[str, Any] = {"strftime_now": datetime.date.fromisoformat(date).strftime}
    if thinking is not None:
        options["enable_thinking"] = thinking
        _require_thinking(tokenizer, options, system)
    befores, afters, openings = set(), set(), set()
    for text in USER_TEXTS:
        before, after = _around(_render(tokenizer, options, system, text), text, tokenizer)
        same, opening = _around(_render(tokenizer, options, system, text, generation=True), text, tokenizer)
        befores |= {before, same}
        afters.add(after)
        openings.add(opening)
    if len(befores) > 1 or len(afters) > 1 or len(openings) > 1:
        raise ConfigError(f"{_named(tokenizer)} puts different text around different questions, so it cannot be split")
    before, after, opening = befores.pop(), afters.pop(), openings.pop()
    if system and system.strip() not in before:
        raise ConfigError(f"{_named(tokenizer)} does not use a system message, so chat.system={system!r} would be lost")
    if not before:
        raise ConfigError(f"{_named(tokenizer)} puts nothing before the user's text, so a question has no prefix")
    lead, closing = _assistant(tokenizer, options, system, before, opening)
    return Turn(before=before, after=after, opening=opening, lead=lead, closing=closing)


def _named(tokenizer: PreTrainedTokenizerFast) -> str:
    return f"the chat template of '{tokenizer.name_or_path}'"


def _render(
    tokenizer: PreTrainedTokenizerFast,
    options: Mapping[str, Any],
    system: str | None,
    user: str,
    assistant: str | None = None,
    generation: bool = False,
) -> str:
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": user})
    if assistant is not None:
        messages.append({"role": "assistant", "content": assistant})
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation, **options)
    except Exception as error:  # a template is a foreign program: whatever it raises is its refusal
        what = "a user message" if system is None else f"chat.system={system!r}"
        raise ConfigError(f"{_named(tokenizer)} fails on {what}: {str(error) or type(error).__name__}") from error
    return str(text)


def _around(rendered: str, text: str, tokenizer: PreTrainedTokenizerFast) -> tuple[str, str]:
    parts = rendered.split(text)
    if len(parts) != 2:
        problem = "does not hold the user's text as it is" if len(parts) == 1 else "repeats the user's text"
        raise ConfigError(f"{_named(tokenizer)} {problem}, so it cannot be split into what comes before and after")
    return parts[0], parts[1]


def _assistant(
    tokenizer: PreTrainedTokenizerFast, options: Mapping[str, Any], system: str | None, before: str, opening: str
) -> tuple[str, str]:
    user = USER_TEXTS[0]
    try:
        rendered = _render(tokenizer, options, system, user, ASSISTANT_TEXT)
    except ConfigError:  # a template for prompts only: answers then end with the end of text
        return "", ""
    head, mark, closing = rendered.partition(ASSISTANT_TEXT)
    start = before + user + opening
    return head[len(start) :] if mark and head.startswith(start) else "", closing if mark else ""


def _require_thinking(tokenizer: PreTrainedTokenizerFast, options: dict[str, Any], system: str | None) -> None:
    with_and_without = {
        _render(tokenizer, options | {"enable_thinking": choice}, system, USER_TEXTS[0], generation=True)
        for choice in (True, False)
    }
    if len(with_and_without) == 1:
        value = str(options["enable_thinking"]).lower()
        raise ConfigError(
            f"{_named(tokenizer)} knows no thinking mode, so chat.thinking={value} has no effect; leave it out"
        )
