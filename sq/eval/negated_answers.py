r"""What an output says is *not* the answer: `The answer is not 7`, `7 is not the answer`, `La respuesta no es 7`.

Such a sentence announces nothing, and its value may not be taken for the answer, so it is cut out before any answer is
looked for. Where it goes on to another value (`is not 7 but 8`), that one is announced. A negation of no value (`the
answer is not unique`) stays as it is. Of `5, not 7` and `5 rather than 7`, 5 is left.
"""

from __future__ import annotations

import re

_NUMBER = r"[-−+]?\\?[$€£¥]?\d(?:[\d.,/:]{0,30}\d)?(?:\s?\\?%)?"
_LETTER = r"\(?(?-i:[A-HJ])\b\)?"
_SIMPLE = rf"\*{{0,2}}(?:\$[^$\n]{{1,200}}\$|{_NUMBER}|{_LETTER})\*{{0,2}}"
_VALUE = (
    rf"(?:{_SIMPLE}|\\[(\[].{{1,200}}?\\[)\]]|\$?\\boxed\s?\{{[^{{}}\n]{{0,100}}\}}\$?|"
    r"-?\\[a-z]{1,12}\{[^{}\n]{0,60}\}\S{0,60})"
)
_ANSWER = r"(?:answer|result|solution|option|choice)(?:\s(?:here|to (?:the|this) (?:problem|question)))?"
_NOT = (
    r"(?:(?:(?:is|are|was|can|could|will|would|should|must)(?:n['’]t|\s?(?:\w{3,10}ly\s)?\*{0,2}not\*{0,2})|"
    r"won['’]t|can['’]t|does not|doesn['’]t)(?:\s(?:possibly\s)?(?:be|equal))?"
    r"(?:\s(?:equal to|simply|just|option|choice|the number))?|is neither|:\*{0,2}\snot|≠|\\neq?\b)"
)
_FOREIGN = (
    r"(?:respuesta(?:\s\w+)?\sno\ses|antwort\s(?:ist|lautet)\snicht|r[ée]ponse(?:\s\w+)?\sn['’]est\spas|"
    r"resposta(?:\s\w+)?\snão\sé|risposta(?:\s\w+)?\snon\sè|ответ\s?[:—-]?\s?не|"
    r"(?:答案|答え|答)(?:并|並|应该|應該|肯定|绝对)?(?:不(?:应该|應該)?(?:是|为|為)|不等于))"
)
_REST = r"(?:(?!\s(?:but|rather|instead|it|sondern|sino|mais|mas|ma|а)\b)[^.,;:!?。，！？\n\\$#—–]){0,80}"
_BUT = (
    r"(?P<but>[,;，]?\s?[—–-]?\s?(?:but|it is|it['’]s|rather|instead|sondern|sino|mais|mas|ma|а|而是)"
    rf"(?:\s(?:rather|it is))?\s?(?={_VALUE}))"
)
_NOT_THE_ANSWER = (
    r"\s(?:is|are)(?:\snot|n['’]t)\s(?:the\s|an?\s)?"
    r"(?:(?:final\s|correct\s|right\s)?(?:answer|result|solution|option|choice)|correct|right(?=\s*[.,;!\n]|$))\b"
)
_VERB_LAST = (r"(?:答え|答|正解)は\s?", r"(?:정답|답)은\s?")
_IT_IS_NOT = rf"(?:\b(?:it|this|that)\s?{_NOT}|(?:^|(?<=[.!?\n]\s)|(?<=[.!?\n]))not)"
_LAST_REFUSED = re.compile(rf"{_IT_IS_NOT}\s(?:(?:option|choice)\s)?{_VALUE}[.!\s]*\Z", re.IGNORECASE)
"""`It is not 7`, at the end."""
_LAST = 400
"""Characters within which it stands."""
_REFUSED = re.compile(
    # The answer is not 7 but ...
    r"\*{0,2}(?:(?:the|la|die|a)\s)?(?:(?:final|correct|right)\s)?"
    rf"(?:\b{_ANSWER}\s?{_NOT}|{_FOREIGN})\s?{_VALUE}{_REST}(?:{_BUT}|[.!。])?|"
    # 7 is not the answer
    rf"(?:\b(?:answer|option|choice)\s)?(?<![\w.,]){_SIMPLE}{_NOT_THE_ANSWER}[.!]?|"
    # the verb comes last
    rf"{_VERB_LAST[0]}{_NUMBER}\s?(?:では|じゃ)(?:な|あり)[^。\n]{{0,20}}。?|"
    rf"{_VERB_LAST[1]}{_NUMBER}\s?(?:[이가]\s)?아[^.\n]{{0,20}}\.?",
    re.IGNORECASE,
)
_MIDDLES = (rf"{_ANSWER}\s?{_NOT}", _NOT_THE_ANSWER, _FOREIGN, *_VERB_LAST)
"""What every negated answer has in it, without the values, which are what makes the whole pattern slow."""
_MIDDLE = re.compile("|".join(_MIDDLES), re.IGNORECASE)
_ASCII_MIDDLES = [
    (re.compile(_MIDDLES[0]), ("answer", "result", "solution", "option", "choice")),
    (re.compile(_MIDDLES[1]), ("is not", "isn't", "are not", "aren't")),
    (re.compile(_MIDDLES[2]), ("respuesta", "antwort", "reponse", "resposta", "risposta")),
]
"""The same for lower-case ASCII, several times as fast: case aside, one by one, and where their words are at all."""
_TUPLE = r"\([^()\n,]{1,40}(?:,[^()\n,]{1,40}){1,4}\)"
_OTHER = (
    rf"(?:\$?\\boxed\s?\{{(?:[^{{}}\n]|\{{[^{{}}\n]{{0,60}}\}}){{0,100}}\}}\$?|{_VALUE}|{_TUPLE}|"
    r"-?\d{1,9}[a-z]\b(?!\^))"
)
_INSTEAD = (
    r"(?:(?:\s?[,;(，—–-]\s?(?:(?:and|but)\s)?|\s(?:and|but)\s)(?:\w{3,10}ly\s)?(?:not|neither)(?=\s)|"
    r"(?:\s|[,(]\s?)(?:rather\sthan|instead\sof|as\sopposed\sto|unlike)(?=\s)|"
    r"[,，(（]?\s?而?(?:不(?:是|为|為|能是|可能是|選|选|包括)|并?非))"
)
_CONTRAST = re.compile(
    rf"(?P<before>{_INSTEAD})\s?(?:(?:option|choice)\s)?{_OTHER}(?:\s(?:or|nor)\s{_OTHER}){{0,4}}(?![\d^]|[a-z]\b)"
    r"(?:\s[A-Za-z]{1,15}(?=\s*(?:[.,;:!?)\n]|$)))?(?P<shut>[)）])?",
    re.IGNORECASE,
)
_CONTRASTS = re.compile(_INSTEAD, re.IGNORECASE)
"""What every contrast has in it."""
_CONTRASTING = ("not", "neither", "rather than", "instead of", "as opposed to", "unlike")
"""In an ASCII text no value is set against another without one of them right before it."""
_VALUE_STARTS = tuple("$\\(*-+0123456789ABCDEFGHJ")
_AFTER_VALUE = re.compile(
    r"(?:[\d%°$}\])]|\d\s?(?:[A-Za-z]{1,15}|[\u4e00-\u9fff]{1,4})|[$}]\s[A-Za-z]{1,15}|(?<![A-Za-z])\(?[A-J]\)?)\*{0,2}$",
    re.ASCII,
)
"""How a value ends, or one with its unit: `5`, `$5$`, `18 dollars`, `(B)`."""


_NEGATING = ("not", "n't", "neither", "\\ne", "no es", "nicht", "n'est", "non ")
"""In an ASCII text nothing is negated without one of them."""


def without_negated_answers(text: str) -> str:
    """The text without the sentences that say what is not the answer, and without the values set against others."""
    lower = text.lower()
    if _may_contrast(text, lower):
        text = _CONTRAST.sub(_without_the_other, text)
        lower = text.lower()
    if text.isascii() and not any(word in lower for word in _NEGATING):
        return text
    if _may_have_one(text, lower):
        text = _REFUSED.sub(lambda match: "The answer is " if match.group("but") else " ", text)
    last = _LAST_REFUSED.search(text, max(0, len(text) - _LAST))
    return f"{text[: last.start()]} " if last else text


def _may_contrast(text: str, lower: str) -> bool:
    if not text.isascii():
        return bool(_CONTRASTS.search(text))
    lower = lower.replace("\n", " ")
    for word in _CONTRASTING:
        at = lower.find(word)
        while at >= 0:
            at += len(word)
            after = text[at : at + 20].lstrip()
            if after.startswith(_VALUE_STARTS) or after[:6].lower() in ("option", "choice"):
                return bool(_CONTRASTS.search(text))
            at = lower.find(word, at)
    return False


def _may_have_one(text: str, lower: str) -> bool:
    if not text.isascii():
        return bool(_MIDDLE.search(text))
    return any(any(word in lower for word in words) and middle.search(lower) for middle, words in _ASCII_MIDDLES)


def _without_the_other(contrast: re.Match[str]) -> str:
    start, shut = contrast.start(), contrast["shut"] or ""
    if not _AFTER_VALUE.search(contrast.string, max(0, start - 40), start):
        return contrast.group()
    return "" if contrast["before"].lstrip().startswith(("(", "（")) else shut
