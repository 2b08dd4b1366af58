r"""Where an output announces its answer: `####`, "the answer is" and its kin in eight languages, a heading."""

from __future__ import annotations

import re

from sq.eval.answer_text import may_mention
from sq.eval.equal.words import is_prose, is_words

_HASHES = re.compile(r"####[ \t]*([^\n]+)")
_PHRASE = re.compile(
    r"(?:(?:^|\n)A(?=:)|final answer|correct answer|correct (?:option|choice)|answer|the result|solution set)"
    r"(?:\s+(?:here|to (?:the|this) (?:problem|question)|of the problem|in simplest form))?"
    r"\s*(?:is|are|was|would be|will be|should be|=|:|(?<=[Ff]inal answer)(?=\s+[-$\\]?[\d(]))[ \t]*:?(?:\s*\})?",
    re.IGNORECASE,
)
_BLANK = re.compile(r"\s*")
_STEP = re.compile(r"(?:step|part|case|solution|final answer|answer)\b", re.IGNORECASE)
_TITLE = re.compile(
    r"\**(?:\d{1,2}[.)]\s+)?(?!(?i:true|false|none|undefined|impossible)\b)"
    r"(?:[A-Za-z][a-z'’-]{2,}(?:[ ,&]+[A-Za-z'’-]+)*+|[^\W\da-zA-Z]{1,20})[:：.]?\**\s*|"
    r"\**(?!(?:Negative|Minus|About|Approximately|Total|Only)\b)[A-Z][a-z]{2,9}\s\d{1,2}[:.]?\**\s*"
)
"""A heading of markdown: `Verification`, `2. Total`, `Day 2`."""
_FOREIGN = re.compile(
    r"(?<![不没别勿未非])(?<!不[能应可会该要宜再必是])(?<!不应[该当])(?<!没有)(?<![没无]人)(?<!没有人)(?<!拒绝)(?<!禁止)(?<!避免)(?<!未必)(?<!不一定)"
    r"[故应]?选(?:择)?\s*+(?:[:：]\s*+)?"
    r"(?=[(（]?[A-H](?:[\s、，,和]{0,4}[A-H]){0,7}[)）]?[^\S\n]*+(?:[。．.,，;；!！\n]|$))|"
    r"(?:答案|答え|答)(?:应该|应|就|確実に)?\s*(?:(?:是|为|為|は)(?:\s?[:：])?|[:：]|】(?:\s?[:：])?)|(?:정답|답)은|ответ\s*[:—-]|respuesta(?:\s+\w+)?\s*(?:es|:)|"
    r"antwort\s*(?:ist|lautet|:)|r[ée]ponse(?:\s+\w+)?\s*(?:est|:)|resposta(?:\s+\w+)?\s*(?:é|:)|risposta\s*(?:è|:)",
    re.IGNORECASE,
)
_PHRASE_WORDS = ("answer", "correct option", "correct choice", "the result", "solution set", "a:")
_FOREIGN_WORDS = ("respuesta", "antwort", "reponse", "resposta", "risposta")
_HEADING = re.compile(r"(?:^|\n)[#* \t]{0,8}(?:final[ ]+)?(?:answer|result)[*:.]{0,4}[ \t]*(?=\n)", re.IGNORECASE)
_HEADING_WORDS = ("answer", "result")
"""In an ASCII text none of these patterns matches without one of its words."""
_CHOSEN = re.compile(
    r"(?:^|[\s*(])([A-J])[)*.]{0,3}\s+(?:is|must be)\s+(?:the\s+)?(?:\w+\s+)?(?:correct|right|answer)\b"
    r"[^.\n]{0,40}[.!\s]*$",
    re.ASCII,
)
_FINAL = re.compile(
    r"final answer\s*(?:is|:)\s*:?\s*(?:\$([^$]{1,200})\$|(-?\$?\d[\d,]*(?:\.\d+)?))(?=\s*(?:[.,!]|$|\n))",
    re.IGNORECASE,
)
_REASON = re.compile(
    r"((?:\$[^$\n]{1,200}\$|[$-]{0,2}\d[\d.,/]*%?|\((?-i:[A-J])\))(?:\s?(?!as\b)[A-Za-z]{1,15}){0,2}?|"
    r"(?-i:[A-J](?:[、，,\s]{1,2}[A-J]){0,7})|yes|no|true|false)"
    r"(?:[\s,;]+\(?(?:because|since|as(?!\s\w+\sas\b)|so\sthat)\b|[，,；。\s]*(?:因为|由于|因為|由於))",
    re.IGNORECASE,
)
"""A value and, behind it, a reason for it."""
_CHANGED = re.compile(
    r"(?:\bat (?:the )?(?:most|least)|(?<!rounded )(?<!rounds )\bup to|"
    r"\b(?:more|less|fewer|greater|smaller|larger|bigger|higher|lower|other) than|\bor equal to|"
    r"\b(?:divisible|divided|multiplied|raised|subtracted|added|coprime|compared|unequal|different|starting|"
    r"any\w*|every\w*|all) (?:by|to|from|with|of|than|but)|"
    r"\b(?:down from|up from|except|excluding|per|over|under|above|below|beyond)|"
    r"\bout of|\b(?:twice|thrice|double|triple)|[\d}$]\s?(?:\\?%|percent)\$? of|"
    r"(?<![\d.,])(?<!ed from )(?<!ed from \$)\d\S*\s(?:and|to(?: the)?|through|plus|minus)|"
    r"(?:\b(?:half|halves|thirds?|quarters?|fourths?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?|percent|square|cube|"
    r"root|factorial|reciprocal|inverse|log(?:arithm)?|times|multiples?|factors?|divisors?|power|negative|opposite|double|"
    r"complement)|\d) of)(?: the)?\s?(?:\$|\\[(\[])?$",
    re.IGNORECASE,
)
"""Words that change the number behind them."""
_CHANGED_BEFORE = re.compile(
    r"\$?\s+(?:[a-z]+ )?(?:at (?:most|least)|"
    r"(?:or|and) (?:so )?(?:more|less|fewer|up|above|below|over|under|higher|lower|greater|larger|"
    r"smaller)|factorial|squared|cubed|and a half)\b|[¼½¾⅓⅔]",
    re.IGNORECASE,
)
"""Words that change the number before them."""

_OF_THE_ANSWER = re.compile(
    r"(?:\w{1,20}ly )?"
    r"(?:correct|right|reasonable|consistent|valid|verified|the same|above|below|shown|given|as follows)\b",
    re.IGNORECASE,
)
"""How words start that say something of an answer that stands before them."""
_ABOUT_IT = re.compile(
    r"[*\s]*+(?:\w{1,20}ly )?(?:correct|right|reasonable|consistent|valid|verified)[*]{0,2}"
    r"(?:[.!\s]*(?:\n|$)|[.!](?=\s)|,?\s(?:because|since|as|with)\b)",
    re.IGNORECASE,
)
"""Nothing more than that: `The answer is correct.` behind an answer."""
_IN_A_SENTENCE = re.compile(
    r"\b(?:the|an?|in|to|as|on|by|of|for|from|with|without|than|that|this|these|it|we|you|is|are|was|into|per)\b",
    re.IGNORECASE,
)
"""Words of a sentence, which a list of words has not."""
_STATEMENT = re.compile(
    r"[A-Z][A-Za-z.'’-]*[,:]?\s+(?:(?!(?:not|never|nor|except|either)\b)[A-Za-z.'’-]+[,:]?\s+)+"
    r"(?P<value>\$?\d[\d\s$.,+*/×÷=%−-]*?)(?:\s(?!hundred|thousand|[bmt]r?illion)[A-Za-z]+){0,4}\.?"
)
"""A short sentence that ends in a value with its unit: `Jojo scored 54 points.`"""
_MINUS = re.compile(r"^(?:minus|negative)\s+(?=[.\d])", re.IGNORECASE)
_COPULA = re.compile(r"\s*(?:です|である|だ|입니다|이다)\s*$")
_NUMERAL = re.compile(r"\d")


def as_value(sentence: str) -> str:
    """`minus 7` as -7, and `7です` without its verb."""
    return _COPULA.sub("", _MINUS.sub("-", sentence))


def last_hashes(text: str) -> re.Match[str] | None:
    """The last `####` with an answer behind it, its first group; above more text a sentence or title is a heading."""
    hashes = None
    for match in _HASHES.finditer(text):
        line = match.group(1)
        heads = (is_prose(line) or _TITLE.fullmatch(line.rstrip())) and not _BLANK.fullmatch(text, match.end())
        if not heads and not _STEP.match(line):
            hashes = match
    return hashes


def last_phrase(text: str) -> re.Match[str] | None:
    """The last phrase that announces an answer."""
    phrase = None
    for pattern, words in ((_PHRASE, _PHRASE_WORDS), (_FOREIGN, _FOREIGN_WORDS), (_HEADING, _HEADING_WORDS)):
        if may_mention(text, words):
            for match in pattern.finditer(text, phrase.end() if phrase else 0):
                if not _ABOUT_IT.match(text, match.end()) or not (phrase or "####" in text[: match.start()]):
                    phrase = match
    return phrase


def last_choice(text: str) -> str | None:
    """The letter that the text ends by calling right: `B is the correct answer.`"""
    chosen = _CHOSEN.search(text[-200:].rstrip())
    return chosen.group(1) if chosen else None


def stated_last(after: str) -> str | None:
    """A number or formula that is called the final answer after the last box, which it corrects."""
    stated = list(_FINAL.finditer(after))
    if not stated:
        return None
    number = stated[-1].group(1) or stated[-1].group(2)
    return number if any(c.isdigit() for c in number) else None


def before_reason(sentence: str) -> str:
    """The value that a sentence starts with, and gives a reason for: `(B)` of `(B) because A is wrong`."""
    reasoned = _REASON.match(sentence)
    return reasoned[1].rstrip(" ,") if reasoned else ""


def is_changed(sentence: str, value: str) -> bool:
    """Whether words beside the value that a sentence ends in change it: `at most 7`, `half of 7`, `7 or more`."""
    at = sentence.rfind(value)
    before = re.split(r"\b(?:is|are|be|was)\s", sentence[:at])[-1].rstrip()
    if _CHANGED_BEFORE.match(sentence, at + len(value)):
        return True
    return len(before.split()) <= 6 and bool(_CHANGED.search(before))


def states_a_value(text: str) -> bool:
    """Whether a text is one short sentence that ends in a value as it stands."""
    statement = _STATEMENT.fullmatch(text) if len(text) < 200 else None
    if statement is None or not (text.endswith(".") or "=" in statement["value"]):
        return False
    return not is_changed(text, statement["value"])


def ending_words(text: str, segment: str) -> str:
    """Words alone that are announced at the end; of an answer that stands before them they may say something."""
    words = segment.strip(" .*!")
    ends = bool(words) and is_words(words) and text.rstrip(" .*!\n").endswith(words)
    if not ends or _OF_THE_ANSWER.match(words):
        return ""
    before = text[: text.rindex(words)]
    return "" if _IN_A_SENTENCE.search(words) and (_NUMERAL.search(before) or "**" in before) else words
