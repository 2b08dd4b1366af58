"""Readers of model replies: headings, JSON, tags, plain text (yes or no: yes_no.py).

Models vary what they are asked for: bold headings, missing marks, fences, a note at the end. Each reader takes these
variants, and says why it cannot read the rest. Every pattern is bounded, so a megabyte is read in linear time, and
nothing is ever evaluated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sq.core.thinking import UNFINISHED, answer_start

READ_BACK = 256  # how many opening braces, from the end, may start the JSON object
OBJECT_SIZE = 20_000  # characters of the longest JSON object read


class Unparsable(Exception):
    """A reply that cannot be read; the message is the reason."""


class Markers:
    """Parts under headings. The value is the part under the last occurrence of the last heading."""

    def __init__(self, markers: Sequence[str], *, synonyms: bool = False) -> None:
        self._label = markers[-1].strip(" :")
        *others, last = (_words(marker, synonyms) for marker in markers)
        words = "|".join((*others, f"(?P<last>{last})"))
        # At a line's start in any dress ("2. **", "### ", "Step 4: #"); within a line only if dressed and with a colon.
        self._heading = re.compile(
            rf"(?:^(?P<left>[ \t>*_#`\[(\"-]{{0,24}}(?:step ?)?(?:\d{{1,2}}[.):]?)?[ \t*_#`\[:.-]{{0,12}})"
            rf"|(?<=[\s.!?])(?P<inline>[*_#]{{1,4}} ?))(?:{words})"
            r"(?P<right>(?:[ \t]?[*_#`\])\"]{1,6})?)(?: ?\([^()\n]{0,40}\))?[*_#]{0,4}"
            r"(?P<colon> ?[:：][*_#`]{0,6}| [-–—] )?(?=(?P<rest>[^\n]?))",
            re.IGNORECASE | re.MULTILINE,
        )

    def read(self, reply: str) -> str:
        """The last part.

        Raises:
            Unparsable: if there is no last heading, or nothing under it.
        """
        text = after_thinking(reply).replace("\r\n", "\n")
        headings = [m for m in self._heading.finditer(text) if _is_heading(m)]
        ends = [*(m.start() for m in headings[1:]), len(text)]
        parts = [text[m.end() : end].strip() for m, end in zip(headings, ends, strict=False) if m["last"]]
        if not parts:
            raise Unparsable(f"no heading '{self._label}'")
        value = clean(UNDERLINE.sub("", parts[-1]))
        if not any(c.isalnum() for c in value):
            raise Unparsable(f"nothing under '{self._label}'")
        if re.fullmatch(r"[\[<({][^\[\]<>(){}\d$\\]{0,80}[\])}>]", value):
            raise Unparsable(f"only a placeholder under '{self._label}'")
        return value


class JsonObject:
    """The last JSON object of a reply that has the keys; the value is a number where there is a scale."""

    def __init__(self, keys: Sequence[str], value: str, scale: Mapping[str, int]) -> None:
        self._keys, self._value = keys, value
        self._scale = {_normal(word): float(number) for word, number in scale.items()}

    def read(self, reply: str) -> str | float:
        """The value of its key.

        Raises:
            Unparsable: if there is no object with all keys, or its value is not on the scale.
        """
        objects = _objects(after_thinking(reply))
        if not objects:
            raise Unparsable("no JSON object")
        whole = [o for o in objects if all(key in o[2] for key in self._keys)]
        if not whole:
            missing = next(key for key in self._keys if key not in objects[0][2])
            raise Unparsable(f"the JSON object has no key '{missing}'")
        last = max(whole, key=lambda o: (o[1], -o[0]))[2]  # the last to end, and of these the outermost
        return self._number(last[self._value]) if self._scale else _text(last[self._value])

    def _number(self, given: Any) -> float:
        number = self._scale.get(_normal(_text(given)))
        if number is None and re.fullmatch(r"\d{1,3}(?:\.0)?", _text(given)):
            number = float(_text(given)) if float(_text(given)) in self._scale.values() else None
        if number is None:
            raise Unparsable(f"{self._value} {_text(given)[:40]!r} is not one of {', '.join(self._scale)}")
        return number


class Tag:
    """The text between the last <TAG> and </TAG>, if there are choices one of them."""

    def __init__(self, tag: str, choices: Sequence[str]) -> None:
        self._tag = tag
        self._marks = re.compile(rf"<(/?){re.escape(tag)}>", re.IGNORECASE)
        self._choices = {_normal(choice): choice for choice in choices}

    def read(self, reply: str) -> str:
        """The text, spelled as the choice is.

        Raises:
            Unparsable: if there is no closed pair, nothing in it, or none of the choices.
        """
        text = after_thinking(reply)
        opened: int | None = None
        inside: str | None = None
        for mark in self._marks.finditer(text):
            if not mark[1]:
                opened = mark.end()
            elif opened is not None:
                inside, opened = text[opened : mark.start()].strip(), None
        if inside is None:
            raise Unparsable(f"no <{self._tag}>…</{self._tag}>")
        if not any(c.isalnum() for c in inside):
            raise Unparsable(f"nothing between <{self._tag}> and </{self._tag}>")
        if self._choices:
            if _normal(inside) not in self._choices:
                raise Unparsable(f"{inside[:60]!r} is not one of the choices")
            inside = self._choices[_normal(inside)]
        return inside


def read_text(reply: str) -> str:
    """The whole reply, thinking and all.

    Raises:
        Unparsable: if it is empty.
    """
    if not (text := reply.strip()):
        raise Unparsable("empty reply")
    return text


def after_thinking(reply: str) -> str:
    """The reply proper of a model that thinks aloud first.

    Raises:
        Unparsable: if it is empty, or was cut off while thinking.
    """
    start = answer_start(reply)
    if start == UNFINISHED:
        raise Unparsable("cut off while thinking")
    text = reply[start or 0 :]
    if not text.strip():
        raise Unparsable("empty reply")
    return text


UNDERLINE = re.compile(r"\A[-=]{3,80}\n")
RULE = re.compile(r"[ \t]{0,8}(?:---|\*\*\*|___)[ \t]{0,8}")
ASIDE = r"[ \t>*_#(\[]{0,8}"
# Said about the question, not in it. The first kind stands on any line; the others only speak of a question or problem.
AFTERWORD = re.compile(
    ASIDE + r"(?:(?:explanation|rationale|justification|solution|(?:final |correct )?answer|changes(?: made)?"
    r"|verification)[*_ ]{0,4}[:：]|let me know\b|i hope\b)",
    re.IGNORECASE,
)
NOTE = re.compile(ASIDE + r"(?:note|notes|remark|comment|n\.?b\.?)\b", re.IGNORECASE)
REMARK = re.compile(
    ASIDE + r"(?:(?:in )?(?:this|the) (?:\w{1,12} )?(?:question|problem|version|revision)\b"
    r"|i(?:'ve| have)? (?:added|changed|modified|made|kept|ensured|rewrote|rewritten|adjusted|clarified|revised)\b)",
    re.IGNORECASE,
)
ABOUT = re.compile(
    r"\b(?:(?:original|rewritten|revised|modified|final|new|this) (?:question|problem|version)"
    r"|rewrit|revis|modif|solvab|original|version|i (?:have )?(?:added|changed|made|kept|ensured|adjusted|clarified))",
    re.IGNORECASE,
)


def clean(part: str) -> str:
    """A part of a reply without its wrapping: fences, bold, quotes, echoed tags, and notes after it."""
    text = part.strip()
    if text.startswith("```"):
        first, _, body = text.partition("\n")
        text = (body or first.strip("`")).partition("\n```")[0].strip()
    text = _without_notes(text.removesuffix("```").rstrip())
    text = text.removeprefix("<question>").removesuffix("</question>").strip()
    if text.endswith("**") and text.count("**") % 2:  # its opening stars were before the heading
        text = text[:-2].rstrip()
    for left, right in (("**", "**"), ('"', '"'), ("“", "”")):
        inner = text[len(left) : -len(right)]
        if len(text) > len(left + right) and text.startswith(left) and text.endswith(right):
            if left not in inner and right not in inner:
                text = inner.strip()
    return text


def _without_notes(text: str) -> str:
    kept: list[str] = []
    after_blank = False
    for line in text.split("\n"):
        if kept:
            head = line[:400]
            speaks = bool(ABOUT.search(head))
            if AFTERWORD.match(head) or (NOTE.match(head) and speaks):
                break
            if after_blank and (RULE.fullmatch(line) or (REMARK.match(head) and speaks)):
                break
        if kept or line.strip():
            kept.append(line)
        after_blank = not line.strip()
    return "\n".join(kept).strip()


def _words(marker: str, synonyms: bool) -> str:
    """A pattern for the heading's words, however they are spaced and, with synonyms, worded."""
    other = {"finally": "final(?:ly|i[sz]ed)?", "problem": "(?:problem|question)", "question": "(?:problem|question)"}
    words = [w.lower() for w in re.findall(r"\w+", marker)]
    patterns = [other.get(w, w) if synonyms else {"and": "(?:and|&)"}.get(w, re.escape(w)) for w in words]
    return r"[ \t_*-]{1,4}".join(patterns)


def _is_heading(match: re.Match[str]) -> bool:
    """Words at a line's start are a heading with a colon, alone on the line, or dressed on both sides."""
    if match["colon"]:
        return True
    if match["inline"]:
        return False
    dressed = any(c in "*#" for c in match["left"]) and any(c in "*#" for c in match["right"])
    return dressed or match["rest"] in ("", "\n")


def _objects(text: str) -> list[tuple[int, int, dict[str, Any]]]:
    """The JSON objects that start at one of the last opening braces: start, end, content; the last to start first."""
    decoder = json.JSONDecoder(strict=False, parse_constant=_no_constant)
    objects = []
    at = len(text)
    for _ in range(READ_BACK):
        at = text.rfind("{", 0, at)
        if at < 0:
            break
        piece = text[at : at + OBJECT_SIZE]
        for attempt in (piece, re.sub(r'\\(?!["\\/bfnrtu])', r"\\\\", piece)):  # LaTeX in it is often not escaped
            try:
                found, length = decoder.raw_decode(attempt)
            except (ValueError, RecursionError):
                continue
            objects.append((at, at + length, {str(k).strip().lower(): v for k, v in found.items()}))
            break
    return objects


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _text(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        value = ", ".join(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode(errors="replace").decode().strip()


def _normal(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.casefold().replace("&", " and ")))
