"""The chat prefix contract: one source of token ids for QFT, QPO and sampling (the paper's section 2.1; docs/chat.md).

A generator is trained on `prefix + question + end` and sampled from `prefix` alone. If the ids differ by one between
training and sampling (a trailing space, a second BOS, a system prompt), it is asked from a place it has never been.
So the ids are made here, once, from the tokenizer's own chat template, and checked before any weight is loaded.

The rule: prefix and question are tokenised *each alone* and put together, whatever a tokenizer would have merged
across the seam; a question has no blanks around it. Text from outside never becomes a control token.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from sq.core.chat_template import Turn, split_template
from sq.core.chat_tokens import PlainText, added_tokens_in
from sq.core.config import setting
from sq.core.errors import ConfigError, RowError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PROBE = "If $\\frac{1}{2}x + 3 = 10$, what is x?\n(a) 7  (b) 14"  # must survive text -> ids -> text


@dataclass(frozen=True, kw_only=True)
class ChatConfig:
    """How a model is asked. All defaults: as its chat template has it. In the by-hand texts `\\n` is a new line."""

    prefix: str | None = setting(None, help="text before a question, by hand; BOS too, if there is to be one")
    end: str | None = setting(None, help="special token that ends a question, by hand")
    system: str | None = setting(None, help="system prompt in place of the template's own")
    answer_prefix: str | None = setting(None, help="text from a question's end to the answer's start, by hand")
    answer_end: str | None = setting(None, help="special token that ends an answer, by hand")
    thinking: bool | None = setting(None, help="the template's thinking mode, where it has one")
    reasoning: list[str] = setting([], help="what opens and closes its reasoning, if it does: [<think>, </think>]")
    date: str = setting("2024-07-26", help="the day for templates that write today's; fixed, or the ids change daily")

    def __post_init__(self) -> None:
        for name in ("prefix", "end", "answer_prefix", "answer_end"):
            text = getattr(self, name)
            if text == "":
                raise ValueError(f"chat.{name} is empty; leave it out to follow the template")
            if text is not None:
                object.__setattr__(self, name, text.replace("\\n", "\n"))
        if len(self.reasoning) not in (0, 2) or not all(self.reasoning):
            raise ValueError(f"chat.reasoning={list(self.reasoning)} is not two marks like [<think>, </think>]")
        if self.system is not None and self.prefix is not None and self.answer_prefix is not None:
            raise ValueError("chat.system has no effect when chat.prefix and chat.answer_prefix are set by hand")
        try:
            datetime.date.fromisoformat(self.date)
        except ValueError as error:
            raise ValueError(f"chat.date={self.date!r} is not a date like 2024-07-26") from error


class SupervisedTokens(NamedTuple):
    """Token ids, and the position of the first one that carries loss (all from there on do)."""

    ids: tuple[int, ...]
    start: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ChatFormat:
    """The ids around questions and answers for one tokenizer. Made by `from_tokenizer`, which checks them."""

    name: str
    question_prefix: str
    question_prefix_ids: tuple[int, ...]
    end: str
    end_ids: tuple[int, ...]
    stop_ids: tuple[int, ...]
    answer_stop_ids: tuple[int, ...]
    turn: Turn | None
    no_turn: str
    key: str
    digest: str
    _tokenizer: PreTrainedTokenizerFast = field(repr=False)
    _plain: PlainText = field(repr=False)
    _frame: tuple[tuple[int, ...], tuple[int, ...]] = field(repr=False)
    _lead: tuple[str, tuple[int, ...], str] = field(repr=False)

    @classmethod
    def from_tokenizer(
        cls,
        tokenizer: PreTrainedTokenizerFast,
        config: ChatConfig | None = None,
        *,
        eos_ids: Iterable[int] = (),
        key: str = "chat",
    ) -> ChatFormat:
        """Derive the format from the tokenizer's chat template and `config`, and check it.

        Args:
            tokenizer: a fast tokenizer.
            config: what is set by hand; none: all by the template.
            eos_ids: further ids that end a text, as the model's generation config has them.
            key: where `config` stands in the whole configuration, for messages.

        Raises:
            ConfigError: for a tokenizer without a template, a template that cannot be split, a broken contract.
        """
        config = config or ChatConfig()
        turn, no_turn = _turn(tokenizer, config, key)
        prefix = config.prefix or (turn.before if turn else "")
        end = _end(tokenizer, config.end, turn.after if turn else "", f"{key}.end")
        answer_end = _end(tokenizer, config.answer_end, turn.closing if turn else "", f"{key}.answer_end")
        added = tokenizer.get_added_vocab()
        end_id, answer_end_id = added[end], added[answer_end]
        eos = [i for i in (tokenizer.eos_token_id, *eos_ids) if i is not None]
        plain = PlainText(tokenizer, _controls(tokenizer, prefix, end, answer_end, turn))
        made: dict[str, Any] = {
            "question_prefix": prefix,
            "question_prefix_ids": _encode(tokenizer, prefix),
            "end": end,
            "end_ids": (end_id,),
            "stop_ids": tuple(dict.fromkeys((end_id, *eos))),
            "answer_stop_ids": tuple(dict.fromkeys((answer_end_id, *eos))),
        }
        texts = (turn.before, turn.opening, turn.lead) if turn else ()
        digest = _digest(made, texts, sorted(tokenizer.get_vocab().items()), plain.encode(PROBE))
        frame = (turn.before, turn.opening) if turn else ("", "")
        chat = cls(
            name=tokenizer.name_or_path or type(tokenizer).__name__,
            turn=turn,
            no_turn=no_turn,
            key=key,
            digest=digest,
            _tokenizer=tokenizer,
            _plain=plain,
            _frame=(_encode(tokenizer, frame[0]), _encode(tokenizer, frame[1])),
            _lead=_lead(tokenizer, turn.lead if turn else ""),
            **made,
        )
        chat.check()
        return chat

    def question_ids(self, text: str) -> SupervisedTokens:
        """Prefix, question and end; loss from the question's first token to the end token. For QFT and QPO.

        Raises:
            RowError: for a question that is empty or is not valid Unicode.
        """
        ids = self._plain.encode(_stripped(text, "question"))
        return SupervisedTokens((*self.question_prefix_ids, *ids, *self.end_ids), len(self.question_prefix_ids))

    def question_text(self, generated_ids: Sequence[int]) -> str:
        """The question in ids sampled from `question_prefix_ids`: up to the first stop, stray control tokens shown."""
        stop = next((at for at, i in enumerate(generated_ids) if i in self.stop_ids), len(generated_ids))
        return self._plain.decode(generated_ids[:stop]).strip()

    def text(self, ids: Sequence[int]) -> str:
        """What ids stand for, control tokens shown."""
        return self._plain.decode(ids)

    def answer_ids(self, question: str, *, instruction: str = "") -> tuple[int, ...]:
        """The prompt for an answer to `question` (and, on a line of its own, `instruction`).

        These are the ids that `apply_chat_template` gives, save that control tokens in the question stay text.
        """
        turn = self._answering()
        text = _stripped(question, "question") + (f"\n{instruction}" if instruction else "")
        ids = _encode(self._tokenizer, turn.before + text + turn.opening)
        before, opening = self._frame
        controls = self._plain.control_ids
        if sum(i in controls for i in ids) == sum(i in controls for i in before + opening):
            return ids
        return (*before, *self._plain.encode(text), *opening)

    def training_ids(self, question: str, solution: str, *, instruction: str = "") -> SupervisedTokens:
        """The prompt of `answer_ids`, the solution and the answer's end; loss from the solution on. For SFT."""
        prompt = self.answer_ids(question, instruction=instruction)
        solution = _stripped(solution, "solution")
        mark, lead_ids, lead_text = self._lead
        if mark and solution.startswith(mark):  # it brings its own thinking
            lead_ids, lead_text = (), ""
        ids = (*lead_ids, *self._plain.encode(lead_text + solution))
        return SupervisedTokens((*prompt, *ids, self.answer_stop_ids[0]), len(prompt))

    def check(self) -> None:
        """Assert the contract.

        Raises:
            ConfigError: with every clause that does not hold for this tokenizer.
        """
        problems = list(_broken(self, self._tokenizer, self._plain))
        if problems:
            reasons = "; ".join(problems)
            raise ConfigError(f"chat format of '{self.name}': {reasons}. {_fix(self.key, self._tokenizer)}")

    def record(self) -> dict[str, Any]:
        """What a trained generator must be sampled with, to be kept beside its weights (see `require_same`)."""
        ids = {"question_prefix_ids": list(self.question_prefix_ids), "end_ids": list(self.end_ids)}
        return {"question_prefix": self.question_prefix, "end": self.end, **ids, "digest": self.digest}

    def require_same(self, recorded: Mapping[str, Any], origin: str) -> None:
        """Refuse to go on where `recorded` (of the run `origin`) has another prefix or end than this format."""
        mine = self.record()
        for name in ("question_prefix", "end"):
            if list(recorded[f"{name}_ids"]) != mine[f"{name}_ids"]:
                raise ConfigError(
                    f"{origin} was trained with the {name.replace('_', ' ')} {recorded[name]!r} = "
                    f"{list(recorded[f'{name}_ids'])}, but here it is {mine[name]!r} = {mine[f'{name}_ids']}; "
                    f"set {self.key}.* to what it was in training"
                )

    def describe(self) -> str:
        """A few lines for the log at the start of a run."""
        lines = [
            f"chat format of '{self.name}' ({self.digest[:12]})",
            f"  question  {self.question_prefix!r} = {_short(self.question_prefix_ids)} … {self.end!r} = "
            f"{self.end_ids[0]}, stops {list(self.stop_ids)}",
        ]
        if self.turn is None:
            return "\n".join([*lines, "  answer    none: " + self.no_turn])
        around = f"{self.turn.before!r} … {self.turn.opening!r}"
        return "\n".join([*lines, f"  answer    {around}, stops {list(self.answer_stop_ids)}"])

    def _answering(self) -> Turn:
        if self.turn is None:
            raise ConfigError(f"no prompt for answers: {self.no_turn}; set {self.key}.answer_prefix='...' by hand")
        return self.turn


def _turn(tokenizer: PreTrainedTokenizerFast, config: ChatConfig, key: str) -> tuple[Turn | None, str]:
    """The texts around an exchange, by the template and by hand; or why there are none."""
    try:
        turn = split_template(tokenizer, system=config.system, thinking=config.thinking, date=config.date)
    except ConfigError as error:
        if config.prefix is None or config.end is None:
            raise ConfigError(f"{error}. {_fix(key, tokenizer)}") from error
        if config.answer_prefix is None:
            return None, str(error)
        turn = Turn(before=config.prefix, after="", opening="", lead="", closing="")
    if config.answer_prefix is not None:
        before = config.prefix or turn.before
        turn = Turn(before=before, after=turn.after, opening=config.answer_prefix, lead="", closing="")
    return turn, ""


def _end(tokenizer: PreTrainedTokenizerFast, by_hand: str | None, after: str, key: str) -> str:
    """The special token that closes a text: set by hand, the template's, or, where that is plain text, eos."""
    added = tokenizer.get_added_vocab()
    if by_hand is not None:
        if by_hand.strip() in added:
            return by_hand.strip()
        raise ConfigError(
            f"{key}={by_hand!r} is no special token of '{tokenizer.name_or_path}', so it is not one id to stop on; "
            f"it has {', '.join(sorted(tokenizer.all_special_tokens)[:12]) or 'none'}"
        )
    marks = added_tokens_in(after.lstrip(), added)
    if marks and marks[0][0] == 0:
        return marks[0][1]
    if tokenizer.eos_token is None:
        raise ConfigError(
            f"'{tokenizer.name_or_path}' closes a text with {after!r}, which is no special token, and it has no "
            f"eos token to end with; set {key}='<a special token>'"
        )
    return str(tokenizer.eos_token)


def _controls(
    tokenizer: PreTrainedTokenizerFast, prefix: str, end: str, answer_end: str, turn: Turn | None
) -> set[str]:
    """The tokens that text from outside must never turn into: all special ones, and those the format is built of.

    Think marks are not among them (unless special): a solution may well bring its own.
    """
    added = tokenizer.get_added_vocab()
    controls = {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}
    controls |= {*tokenizer.all_special_tokens, end, answer_end}
    controls |= {mark for _, mark in added_tokens_in(prefix, added)}
    if turn is not None:
        controls |= {mark for _, mark in added_tokens_in(turn.before + turn.after, added)}
        controls |= {mark for _, mark in added_tokens_in(turn.opening.removeprefix(turn.after), added)[:1]}
    return controls


def _broken(chat: ChatFormat, tokenizer: PreTrainedTokenizerFast, plain: PlainText) -> Iterable[str]:
    prefix_ids, bos = chat.question_prefix_ids, tokenizer.bos_token_id
    prompts = {"question prefix": prefix_ids}
    if chat.turn is not None:
        prompts["answer prompt"] = chat.answer_ids(PROBE)
    for name, ids in prompts.items():
        if bos is not None and ids[:2] == (bos, bos):
            yield f"the {name} starts with two BOS tokens"
        if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
            yield f"the {name} has characters that the tokenizer does not know"
    read = plain.decode(prefix_ids)
    if "".join(read.split()) != "".join(chat.question_prefix.split()):
        yield f"the ids of the question prefix read {read!r}, not {chat.question_prefix!r}"
    added = tokenizer.get_added_vocab()
    if lost := {m for _, m in added_tokens_in(chat.question_prefix, added) if added[m] not in prefix_ids}:
        yield f"{', '.join(sorted(lost))} in the question prefix is not one token"
    for text in (PROBE, f"what does {chat.end}{tokenizer.eos_token or ''} mean?"):
        tokens = chat.question_ids(text)
        if not plain.control_ids.isdisjoint(tokens.ids[tokens.start : -1]):
            yield f"text becomes a control token in {text!r}"
        if (back := chat.question_text(tokens.ids[tokens.start :])) != text:
            yield f"the question {text!r} comes back from its ids as {back!r}"


def _lead(tokenizer: PreTrainedTokenizerFast, lead: str) -> tuple[str, tuple[int, ...], str]:
    """What an answer starts with: its first mark, the ids up to its last mark, and the text from there on."""
    marks = added_tokens_in(lead, tokenizer.get_added_vocab())
    if not marks:
        return "", (), lead
    cut = marks[-1][0] + len(marks[-1][1])
    return marks[0][1], _encode(tokenizer, lead[:cut]), lead[cut:]


def _encode(tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[int, ...]:
    """A template's own text to ids. BOS is in it or not as the template has it: none is ever added."""
    return tuple(tokenizer.encode(text, add_special_tokens=False)) if text else ()


def _stripped(text: str, what: str) -> str:
    if not (text := text.strip()):
        raise RowError(f"the {what} is empty")
    return text


def _fix(key: str, tokenizer: PreTrainedTokenizerFast) -> str:
    end = tokenizer.eos_token or "<special token>"
    return f"To set it by hand: {key}.prefix='<text before the question>' {key}.end='{end}'"


def _digest(*parts: Any) -> str:
    text = json.dumps(parts, ensure_ascii=True, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _short(ids: Sequence[int]) -> str:
    first = ", ".join(map(str, ids[:8])) + (", …" if len(ids) > 8 else "")
    return f"[{first}] ({len(ids)} tokens)"
