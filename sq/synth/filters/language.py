"""Removes questions in another language, and keeps mathematics: formulas, Greek letters, € and curly quotes stay.

The released code drops every text with a non-ASCII character, 4.1% of GSM8K among them (paper, section 2.3). Here a
script tells first (Chinese, Cyrillic, ...); what is written in Latin letters is English if its small words are, and
only what is left goes to Lingua, without its formulas and only if it is long enough to tell. Several languages that
stay may be balanced: then as many questions of each stay as there are of the rarest one, drawn by the seed.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sq.core.config import setting
from sq.synth.filters.base import FilterConfig, FilterContext, FilterItem
from sq.synth.filters.spool import Spool, draw

log = logging.getLogger(__name__)

FORMULA = re.compile(
    r"\$\$.{0,2000}?\$\$|\$.{0,500}?\$|\\\[.{0,2000}?\\\]|\\\(.{0,500}?\\\)|\[asy\].*?\[/asy\]"
    r"|\\begin\{(\w+\*?)\}.{0,3000}?\\end\{\1\}",
    re.DOTALL,
)
COMMAND = re.compile(r"\\(?:text\w*|mbox|mathrm)\s*\{|\\[a-zA-Z]+|https?://\S+")
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
MATHEMATICAL = ("GREEK", "MATHEMATICAL", "DOUBLE-STRUCK", "SCRIPT", "BLACK-LETTER", "PLANCK", "ALEF", "BET", "GIMEL")
SMALL_WORDS = frozenset(
    "a an the of in on at by for from with to and or but if is are was were be been has have had does did do how what "
    "which when where who why than then that this there their his her its he she they it all each every any some many "
    "much more per let find given such can will would not as so into between after before both one two three".split()
)


@dataclass(frozen=True, kw_only=True)
class LanguageFilter(FilterConfig):
    """Keeps one language, or some."""

    keep: list[str] = setting(["en"], help="ISO 639-1 codes of the languages that stay")
    foreign_script: float = setting(0.2, gt=0, le=1, help="share of letters of another script that makes it foreign")
    confidence: float = setting(0.9, ge=0, le=1, help="how sure the identifier must be to remove a text")
    min_words: int = setting(4, ge=1, help="texts with fewer words outside formulas stay")
    balance: bool = setting(False, help="of each language in keep as many as of the one with the fewest")
    ascii_only: bool = setting(False, help="remove whatever is not plain ASCII, as the paper's code does")

    def __post_init__(self) -> None:
        if not self.keep or not all(re.fullmatch("[a-z]{2}", code) for code in self.keep):
            raise ValueError(f"keep={list(self.keep)} is no list of languages by their two letters, as in keep=[de,fr]")
        if self.balance and len(set(self.keep)) < 2:
            raise ValueError(f"balance=true has nothing to balance: keep={list(self.keep)} is one language")

    @property
    def needs_all_rows(self) -> bool:
        """How many of a language stay depends on how many there are of the others."""
        return self.balance

    def apply(self, cases: Iterator[FilterItem], context: FilterContext) -> Iterator[FilterItem]:
        """Add language and language_score; remove what is in another language, and what is too many of one."""
        return self._balanced(self._kept(cases), context) if self.balance else self._kept(cases)

    def _balanced(self, cases: Iterator[FilterItem], context: FilterContext) -> Iterator[FilterItem]:
        draws: dict[str, array[float]] = {language: array("d") for language in self.keep}
        with Spool(context.scores) as spool:
            for case in cases:
                spool.add(case)
                if case.reason is None:
                    draws[case.row["language"]].append(_draw(case, context))
            counts = {language: len(own) for language, own in draws.items()}
            if missing := [language for language, count in counts.items() if not count and any(counts.values())]:
                log.warning(
                    "filters.language.balance: no question is in %s; the others are balanced", ", ".join(missing)
                )
            share = min(filter(None, counts.values()), default=0)
            last = {language: sorted(own)[share - 1] for language, own in draws.items() if own}
            context.metrics.update({f"language/{language}": float(count) for language, count in counts.items()})
            context.metrics["balanced_away"] = float(sum(max(0, count - share) for count in counts.values()))
            for case in spool:
                if case.reason is None and _draw(case, context) > last[language := case.row["language"]]:
                    case.remove(
                        "balance", f"{counts[language]:,} are in {language}, and {share:,} of each language stay"
                    )
                yield case

    def _kept(self, cases: Iterator[FilterItem]) -> Iterator[FilterItem]:
        for case in cases:
            if case.reason is None:
                language, score = identify(case.question, self)
                case.row |= {"language": language, "language_score": score}
                if self.ascii_only and not case.question.isascii():
                    stray = next(c for c in case.question if ord(c) > 127)
                    case.remove("language", f"not ASCII: {stray!r} (U+{ord(stray):04X})")
                elif language not in self.keep:
                    case.remove("language", f"{language}, {score:.2f} sure")
            yield case


def _draw(case: FilterItem, context: FilterContext) -> float:
    return draw(context.seed, "language", case.row["id"])


def identify(text: str, config: LanguageFilter) -> tuple[str, float]:
    """The language of a text and how sure that is; a text that cannot be told has the first language that is kept."""
    prose = COMMAND.sub(" ", FORMULA.sub(_unless_prose, text))
    words = WORD.findall(prose)
    if _told_by_script(tuple(config.keep)) and (script := _foreign_script(words, config.foreign_script)):
        return script
    small = [word.lower() in SMALL_WORDS for word in words]
    if "en" in config.keep and words and sum(small) / len(words) >= 0.25:
        return "en", 1.0
    if sum(len(word) > 1 for word in words) < config.min_words:
        return config.keep[0], 0.0
    best = _identifier().compute_language_confidence_values(" ".join(w for w in words if len(w) > 1))[0]
    score = round(best.value, 9)  # its last digits differ from run to run
    language = best.language.iso_code_639_1.name.lower()
    if language not in config.keep and score < config.confidence:
        return config.keep[0], 0.0
    return language, score


def _unless_prose(formula: re.Match[str]) -> str:
    """Nothing of a formula; but what stands between two dollar amounts is text."""
    inside = formula[0]
    return inside if inside[0] == "$" and "\\" not in inside and len(re.findall(r"[^\W\d_]{3,}", inside)) > 2 else " "


@lru_cache
def _told_by_script(keep: tuple[str, ...]) -> bool:
    """Whether another script is another language: all that stay have Latin letters, or the one script of `CODES`."""
    from lingua import Language

    latin = {language.iso_code_639_1.name.lower() for language in Language.all_with_latin_script()}
    return set(keep) <= latin | set(CODES.values())


def _foreign_script(words: list[str], share: float) -> tuple[str, float] | None:
    """The script that is not Latin, if `share` of the letters are of such; Greek counts in whole words only."""
    letters = latin = 0
    scripts: dict[str, int] = {}
    for word in words:
        if word.isascii():
            letters += len(word)
            latin += len(word)
            continue
        for c in word:
            name = _script(c)
            if name == "GREEK" and len(word) > 3:
                pass
            elif name in MATHEMATICAL:
                continue
            letters += 1
            if name == "LATIN":
                latin += 1
            else:
                scripts[name] = scripts.get(name, 0) + 1
    if letters and scripts and (letters - latin) / letters >= share:
        name = max(scripts, key=lambda s: (s in KANA, scripts[s]))
        return CODES.get(name, name.lower()), (letters - latin) / letters
    return None


KANA = ("HIRAGANA", "KATAKANA")
"""Between Chinese characters they are what only Japanese has."""
CODES = {
    "CJK": "zh", "HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko", "CYRILLIC": "ru", "ARABIC": "ar", "HEBREW": "he",
    "DEVANAGARI": "hi", "BENGALI": "bn", "TELUGU": "te", "THAI": "th", "GREEK": "el",
}  # fmt: skip


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "UNKNOWN").split()[0]


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from lingua import LanguageDetectorBuilder

    return LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode().build()
