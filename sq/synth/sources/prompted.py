"""A source that asks a model with prompts, about seeds: what all such sources share.

An item is one turn at one or several seeds. Which ones is decided by the item's number, so any worker can begin
anywhere, and the item's random numbers by the seed and the number. `write` says what is asked and which texts of the
replies are questions; the ids, the parents, the checks and the rejects are made here.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sq.core.config import flatten, nearest, setting
from sq.core.errors import ConfigError, SqError
from sq.core.ledger import Reject, WorkItem
from sq.core.prompts import Prompt, PromptConfig
from sq.core.rows import QUESTION, SEEDS, fit_row, row_id, with_extra
from sq.data.readers import BadRow
from sq.engine.base import Sampling
from sq.engine.failures import rejected
from sq.synth.filters.words import words_of
from sq.synth.model_client import AnyRequest, ModelClient, RejectedItem, RequestFlow
from sq.synth.sources.base import QuestionSource, unusable
from sq.synth.stage import ItemResult, StageInput, StageSpec, bad_item, seed_of

if TYPE_CHECKING:
    from sq.synth.config import SynthJob
    from sq.synth.questions import QuestionsStage

Row: TypeAlias = dict[str, Any]
Asking: TypeAlias = Generator[Sequence[AnyRequest], list[Any], str]
Writing: TypeAlias = Generator[Sequence[AnyRequest], list[Any], None]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What an item is made from."""

    seeds: tuple[Row, ...]
    concepts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PromptedSource(QuestionSource):
    """Base of the sources that ask a model about seeds (`input=`, else the domain's own problems)."""

    roles: ClassVar[tuple[str, ...]] = ()
    """The prompts that it asks with."""
    need: ClassVar[tuple[str, ...]] = ("question",)
    """Columns that its seeds must have."""
    all_seeds: ClassVar[bool] = False
    """Whether an item may be made from any seed; else number n is made from the nth, and they go round."""

    prompts: dict[str, PromptConfig] = setting({}, help="each prompt that it asks with")

    def __post_init__(self) -> None:
        if wrong := sorted(set(self.prompts) ^ set(self.roles)):
            state = "is missing" if wrong[0] in self.roles else f"is asked by nothing{nearest(wrong[0], self.roles)}"
            raise ValueError(f"prompts.{wrong[0]} {state}: source={self.name} asks with {', '.join(self.roles)}")

    @property
    def asks(self) -> Mapping[str, float]:
        """Each prompt once a question."""
        return {self.prompts[role].template: self.per_item for role in self.roles}

    def turns(self, seeds: Sequence[Row]) -> Turns:
        """What each item is made from."""
        return Turns(seeds)

    def write(self, item: Item) -> Writing:
        """Ask, and `item.add` each question of the replies."""
        raise TypeError(f"{type(self).__name__} writes nothing")

    def spec(self, job: SynthJob, stage: QuestionsStage) -> StageSpec:
        """`count` turns at the seeds."""
        source = StageInput(job=job, domain=job.domain.create(), need=self.need)
        inputs = (self.check(source, own_problems=True),)
        writer = Writer(self, job, stage, source)
        return StageSpec(
            schema=QUESTION,
            fingerprint_fields={**writer.client.fingerprint_fields, "prompts": writer.digests},
            items=writer.items,
            items_from=writer.items,
            process=lambda items, run: writer.client.run_flows(items, lambda item: writer.request_flow(item, run)),
            close=writer.client.close,
            usages=(writer.client.usage,),
            traces=writer.client.traces,
            inputs=inputs,
            ignored_fields=frozenset(k for k in flatten(stage, "stage") if k.startswith("stage.source.prompts.")),
            total=stage.count,
            independent=self.per_item == 1,
            unit="item",
        )


@dataclass(frozen=True)
class Turns:
    """Number n is made from the nth seed, and they go round."""

    seeds: Sequence[Row]

    def at(self, index: int, rng: random.Random) -> Turn:
        """What item number `index` is made from."""
        return Turn(seeds=(self.seeds[index % len(self.seeds)],))


class Writer:
    """A source at work: its model, its prompts, its seeds."""

    def __init__(self, source: PromptedSource, job: SynthJob, stage: QuestionsStage, seeds: StageInput) -> None:
        self.source, self.client, self.domain = source, ModelClient(job.model, job.engine), job.domain.name
        self.prompts = {role: Prompt(config) for role, config in source.prompts.items()}
        self.digests = {role: prompt.digest for role, prompt in sorted(self.prompts.items())}
        self.sampling: Sampling = self.client.sampling(
            temperature=stage.temperature, top_p=stage.top_p, max_tokens=stage.max_tokens
        )
        self._seed, self._count, self._input = job.seed, stage.count, seeds

    @cached_property
    def _seeds(self) -> tuple[list[Row], list[BadRow]]:
        """As many seeds as are turned to, and the lines that give none."""
        seeds: list[Row] = []
        bad: list[BadRow] = []
        for row in self._input.rows():
            if isinstance(row, BadRow):
                bad.append(row)
            else:
                seeds.append(row)
            if len(seeds) == self._count and not self.source.all_seeds:
                break
        return seeds, bad

    def items(self, start: int = 0) -> Iterator[WorkItem]:
        """Item number `start` and those after it; then the lines of the input that gave no seed."""
        seeds, bad = self._seeds
        turns = self.source.turns(seeds)
        fixed = {
            **self.client.fingerprint_fields,
            "source": {k: v for k, v in flatten(self.source).items() if not k.startswith("prompts.")},
            "prompts": self.digests,
            "sampling": flatten(self.sampling),
            "seed": self._seed,
        }
        for index in range(start, self._count):
            turn = turns.at(index, random.Random(f"{self._seed}:{self.source.name}:{index}"))
            texts = [[seed["id"], seed["question"]] for seed in turn.seeds]
            yield WorkItem(row_id("turn", seeds=texts, concepts=turn.concepts, index=index, **fixed), (turn, index))
        yield from map(bad_item, bad[max(0, start - self._count) :])

    def request_flow(self, work: WorkItem, run: str) -> RequestFlow:
        """Everything that comes of an item: its questions, and one reject where a step gave none."""
        turn, index = work.payload
        item = Item(self, work.key, turn, index, run)
        try:
            yield from self.source.write(item)
        except RejectedItem as problem:
            item.rejects.append(problem.reject)
        return ItemResult(key=work.key, rows=item.rows, rejects=item.rejects)


@dataclass
class Item:
    """One item on its way: what it is made from, what was written so far, and whom it asks."""

    writer: Writer
    key: str
    turn: Turn
    index: int
    run: str
    rows: list[Row] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    _asked: int = 0
    _tokens: dict[str, int] = field(default_factory=lambda: {"question_tokens": 0, "question_prompt_tokens": 0})

    @cached_property
    def rng(self) -> random.Random:
        """Decided by the item's key alone."""
        return random.Random(f"write:{self.key}")

    @property
    def seed(self) -> Row:
        """The first row that it is made from."""
        return self.turn.seeds[0]

    @property
    def question(self) -> str:
        """The question that it has come to: the last one that was written, else the seed's."""
        return str((self.rows or self.turn.seeds)[-1 if self.rows else 0]["question"])

    def ask(self, role: str, **fields: str) -> Asking:
        """Ask with one of the source's prompts; what its parser reads in the reply."""
        prompt, key = self.writer.prompts[role], row_id("ask", item=self.key, step=self._asked)
        self._asked += 1
        try:
            request = self.writer.client.request(key, prompt.render(**fields), self.writer.sampling)
        except ConfigError:
            raise
        except SqError as error:
            raise self.reject("unusable", str(error), role) from error
        (result,) = yield [request]
        if result.error is not None:
            raise RejectedItem(rejected(self._row(role), result))
        reply = result.completions[0]
        self._tokens["question_tokens"] += reply.tokens
        self._tokens["question_prompt_tokens"] += result.prompt_tokens
        if reply.finish_reason == "length":
            raise self.reject("cut-off", f"{role}: after {reply.tokens} tokens", role)
        parsed = prompt.parse(reply.text)
        if not parsed.ok:
            raise self.reject("unparsed", f"{role}: {parsed.reason}: {reply.text[:160]}", role)
        return str(parsed.value).strip()

    def add(self, question: str, operation: str = "", **columns: Any) -> None:
        """A question that was written, made by this operation; `columns` is what else is known of it."""
        if problem := unusable(question):
            raise self.reject(problem, question[:200], operation)
        if any(words_of(question) == words_of(before["question"]) for before in (*self.turn.seeds, *self.rows)):
            raise self.reject("unchanged", question[:200], operation)
        row = self._row(operation) | {"question": question, "question_finish_reason": "stop", **self._tokens}
        self.rows.append(row | columns)
        self._tokens = dict.fromkeys(self._tokens, 0)

    def reject(self, reason: str, detail: str, operation: str) -> RejectedItem:
        """The error that ends the item here, with the row that was to be."""
        return RejectedItem(Reject(row=self._row(operation) | self._tokens, reason=reason, detail=detail))

    def _row(self, operation: str) -> Row:
        number, client, seeds = len(self.rows), self.writer.client, self.turn.seeds
        places = {s["id"]: f"{s.get('source')}:{s['source_row']}" for s in seeds if s.get("source_row") is not None}
        made_from = [*(row["id"] for row in reversed(self.rows)), *(seed["id"] for seed in seeds)]
        inherited = fit_row({k: v for k, v in self.seed.items() if k == "domain"}, QUESTION)
        return {
            **inherited,
            "id": row_id("written", item=self.key, number=number) if number else self.key,
            "run": self.run,
            "model": client.identity,
            "seed": seed_of(self.key),
            "parents": list(dict.fromkeys([*made_from, *(p for seed in seeds for p in seed["parents"])])),
            "generator": client.name,
            "index": self.index,
            "question_source": self.writer.source.name,
            "operation": operation or None,
            "round": number,
            "concepts": list(self.turn.concepts) or None,
            "extra": with_extra(None, {SEEDS: places}) if places else None,
        }  # fmt: skip
