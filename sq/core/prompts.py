"""Prompts as data: the text that asks, and beside it what its reply must look like (the paper's appendix on prompts).

One YAML in conf/prompt/ per role. A template is filled in a single pass, so braces and LaTeX in a question are left as
they are; a reply that does not hold what was asked for is unparsable, with the reason and the raw text, and never
mistaken for a No or an empty rewrite.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from sq.core import reply_parsers
from sq.core.config import flatten, nearest, setting
from sq.core.errors import ConfigError
from sq.core.reply_parsers import Unparsable
from sq.core.yes_no import YesNo, parse_yes_no

# A placeholder, not the argument of a LaTeX command (\boxed{answer}, x^{n}, {a}{b}).
PLACEHOLDER = re.compile(r"(?<![\w\\}^])\{([a-z_][a-z0-9_]*)\}")


class ParserKind(Enum):
    """The kinds of reply that can be read."""

    markers = "markers"
    """Parts under headings, in order; the value is the last one."""
    rewritten = "rewritten"
    """The same, where models also vary the heading's words (final, finally; problem, question)."""
    verdict = "verdict"
    """A final Yes or No; what was said on the way there does not count."""
    json = "json"
    """The last JSON object."""
    tag = "tag"
    """The text between <TAG> and </TAG>."""
    text = "text"
    """The whole reply."""


@dataclass(frozen=True, kw_only=True)
class ParserConfig:
    """How to read the reply. Which settings count depends on `kind`."""

    kind: ParserKind = setting(help="the kind of reply")
    markers: list[str] = setting([], help="markers, rewritten: the headings in order, the value's last")
    keys: list[str] = setting([], help="json: keys the object must have")
    value: str | None = setting(None, help="json: the key of the value")
    scale: dict[str, int] = setting({}, help="json: the number that each word for the value stands for")
    tag: str | None = setting(None, help="tag: the name between the angle brackets")
    choices: list[str] = setting([], help="tag: the allowed values; none: any")

    def __post_init__(self) -> None:
        used = {
            ParserKind.markers: ("markers",),
            ParserKind.rewritten: ("markers",),
            ParserKind.json: ("keys", "value", "scale"),
            ParserKind.tag: ("tag", "choices"),
        }.get(self.kind, ())
        for name in ("markers", "keys", "value", "scale", "tag", "choices"):
            if getattr(self, name) and name not in used:
                raise ValueError(f"parser.{name} has no effect with parser.kind={self.kind.name}; leave it out")
        for name in {"markers", "tag", "value"} & set(used):
            if not getattr(self, name):
                raise ValueError(f"parser.kind={self.kind.name} needs parser.{name}")
        if any(not re.search(r"\w", marker) for marker in self.markers):
            raise ValueError(f"parser.markers={self.markers} has a marker without a word")
        if self.value and self.value not in self.keys:
            raise ValueError(f"parser.value={self.value!r} is not one of parser.keys={self.keys}")


@dataclass(frozen=True, kw_only=True)
class PromptConfig:
    """A prompt: whose part the model plays, the text, and the parser of its reply."""

    role: str = setting(help="what the prompt is for, as the file is named")
    template: str = setting(help="the text, with a {placeholder} for each field")
    fields: list[str] = setting(["question"], help="the placeholders that are filled")
    parser: ParserConfig = setting(help="how the reply is read")

    def __post_init__(self) -> None:
        placeholders = set(PLACEHOLDER.findall(self.template))
        for name in self.fields:
            if f"{{{name}}}" not in self.template:
                raise ValueError(f"the template of prompt '{self.role}' has no {{{name}}}, which it declares in fields")
        for name in sorted(placeholders - set(self.fields)):
            hint = nearest(name, self.fields)
            raise ValueError(
                f"the template of prompt '{self.role}' has {{{name}}}, which is not in fields={self.fields}{hint}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Parsed:
    """What a reply says, or, if not `ok`, the `reason` why it cannot be read."""

    ok: bool
    raw: str
    value: str | float | YesNo | None = None
    reason: str | None = None


class Prompt:
    """A prompt ready for use: fills the template, reads the reply."""

    def __init__(self, config: PromptConfig) -> None:
        self.role, self.kind = config.role, config.parser.kind
        self.fields = tuple(config.fields)
        self.digest = _digest(config)
        self._template = config.template
        self._places = re.compile("|".join(re.escape(f"{{{name}}}") for name in self.fields) or "(?!)")
        self._parse = _parser(config.parser)

    def render(self, **values: str) -> str:
        """The prompt with each field's text in its place, exactly as given, whatever braces it has.

        Raises:
            ConfigError: if a field is missing, unknown or no text.
        """
        for name in self.fields:
            if not isinstance(values.get(name), str):
                what = f"is {values[name]!r}, no text" if name in values else "is missing"
                raise ConfigError(f"prompt '{self.role}' needs the field '{name}', which {what}")
        for name in values.keys() - set(self.fields):
            fields = ", ".join(self.fields) or "none"
            raise ConfigError(
                f"prompt '{self.role}' has no field '{name}'{nearest(name, self.fields)} It has: {fields}"
            )
        return self._places.sub(lambda match: values[match.group()[1:-1]], self._template)

    def parse(self, reply: str) -> Parsed:
        """Read a reply. Never raises: a reply that cannot be read comes back with the reason."""
        try:
            return Parsed(ok=True, raw=reply, value=self._parse(reply))
        except Unparsable as problem:
            return Parsed(ok=False, raw=reply, reason=str(problem))

    def yes_no(self, reply: str, finish_reason: str) -> YesNo:
        """The answer of a judge whose reply ended so; one that was cut off (`length`) has none."""
        value = self.parse(reply).value if finish_reason != "length" else None
        return value if isinstance(value, YesNo) else YesNo.UNPARSABLE


def _parser(config: ParserConfig) -> Callable[[str], str | float | YesNo]:
    """The reader of replies of one kind."""
    match config.kind:
        case ParserKind.markers:
            return reply_parsers.Markers(config.markers).read
        case ParserKind.rewritten:
            return reply_parsers.Markers(config.markers, synonyms=True).read
        case ParserKind.json:
            return reply_parsers.JsonObject(config.keys, str(config.value), config.scale).read
        case ParserKind.tag:
            return reply_parsers.Tag(str(config.tag), config.choices).read
        case ParserKind.verdict:
            return parse_yes_no
        case ParserKind.text:
            return reply_parsers.read_text


def _digest(config: PromptConfig) -> str:
    text = json.dumps(flatten(config), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
