"""A judge's word on whether a question can be solved (paper, section 2.3: Qwen2-Math-7B-Instruct, greedy).

Only the final verdict counts, and a reply without one is `unparsable`. `votes` asks several times. The judge's own
error can be measured: `measure` spoils questions on purpose (synthetic_negatives.py) and counts what it removes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import OmegaConf

from sq.core.config import build, conf_dir, flatten, nearest, setting
from sq.core.errors import ConfigError
from sq.core.ledger import WorkItem
from sq.core.prompts import ParserKind, Prompt, PromptConfig
from sq.core.rows import row_id
from sq.core.yes_no import YesNo, majority
from sq.domains.base import DomainConfig
from sq.engine.base import Sampling
from sq.synth.filters.base import FilterConfig, FilterContext, FilterItem
from sq.synth.filters.synthetic_negatives import SyntheticNegatives
from sq.synth.filters.waiting import Answered, replies_in_order
from sq.synth.model_client import ModelClient, RequestFlow
from sq.synth.score_store import ScoreStore
from sq.synth.stage import ItemResult


@dataclass(frozen=True, kw_only=True)
class SolvabilityFilter(FilterConfig):
    """Keeps what the judge (model= and engine= of the job) says can be solved."""

    asks_model: ClassVar = True
    ignored_fields: ClassVar = ("measure", "planted")

    prompt: str = setting("judge_solvability", help="a YAML of conf/prompt/")
    votes: int = setting(1, ge=1, help="times the judge is asked; most verdicts win, a tie is unparsable")
    temperature: float = setting(0.0, ge=0, help="0 is greedy")
    top_p: float = setting(1.0, gt=0, le=1)
    max_tokens: int = setting(2048, ge=1)
    keep_unparsable: bool = setting(False, help="let questions stand on which the judge gave no plain verdict")
    measure: bool = setting(
        False, help="spoil questions on purpose and tell what the judge removes of those, and unspoiled"
    )
    planted: int = setting(200, ge=1, help="measure: so many questions, each as it came and spoiled")

    def __post_init__(self) -> None:
        if self.votes > 1 and self.temperature == 0:
            raise ValueError(f"votes={self.votes} with temperature=0 are all the same; raise temperature")

    @property
    def needs_all_rows(self) -> bool:
        """What is spoiled for a measurement is drawn from all rows."""
        return self.measure

    def fingerprint_fields(self, context: FilterContext) -> Mapping[str, Any]:
        """The judge and its prompt."""
        return {**context.models.judge().fingerprint_fields, "prompt": judge_prompt(self.prompt).digest}

    def apply(self, cases: Iterator[FilterItem], context: FilterContext) -> Iterator[FilterItem]:
        """Add the judge's verdict and words; remove what cannot be solved, and what it gave no verdict on."""
        client, prompt = context.models.judge(), judge_prompt(self.prompt)
        judge = SolvabilityJudge(self, client, prompt, context)
        with ScoreStore(context.scores / f"solvability-{row_id('judge', **client.fingerprint_fields)[:12]}") as scores:
            planted = SyntheticNegatives(self.planted, context.domain, context.seed) if self.measure else None
            for case in judge.assess(cases, scores):
                if case.reason is None and planted is not None:
                    planted.consider(case.question)
                yield self._remove_unsolvable(case)
            if planted is not None:
                variants = [FilterItem(row={"question": text}) for text in planted.texts()]
                answers = [YesNo(case.row.get("solvable")) for case in judge.assess(iter(variants), scores)]
                context.metrics.update(planted.metrics(answers))

    def _remove_unsolvable(self, case: FilterItem) -> FilterItem:
        answer = YesNo(case.row["solvable"]) if case.reason is None else YesNo.YES
        if answer.reject_reason and not (answer is YesNo.UNPARSABLE and self.keep_unparsable):
            case.remove(answer.reject_reason, str(case.row["judge_reply"])[-200:])
        return case


class SolvabilityJudge:
    """Asks about questions, many at once, and gives them back in their order."""

    def __init__(self, config: SolvabilityFilter, client: ModelClient, prompt: Prompt, context: FilterContext) -> None:
        self._client, self._prompt, self._seed, self._whole = client, prompt, context.seed, context.whole
        self._sampling: Sampling = client.sampling(
            n=config.votes,
            temperature=config.temperature,
            top_p=config.top_p,
            max_tokens=config.max_tokens,
            setting="filters.solvability.max_tokens",
        )

    def assess(self, cases: Iterator[FilterItem], scores: ScoreStore) -> Iterator[FilterItem]:
        """Every case with the verdict on it (`replies_in_order`)."""
        answered = replies_in_order(
            self._client, cases, scores, key=self._key, request_flow=self._request_flow, whole=self._whole,
            who="the judge",
        )  # fmt: skip
        return map(self._with_columns, answered)

    def _key(self, case: FilterItem) -> str:
        fingerprint_fields = {
            **self._client.fingerprint_fields,
            "sampling": flatten(self._sampling),
            "prompt": self._prompt.digest,
        }
        return row_id("verdict", question=case.question, seed=self._seed, **fingerprint_fields)

    def _request_flow(self, item: WorkItem) -> RequestFlow:
        question = item.payload.question
        _, result = yield from self._client.ask({}, item.key, question, self._sampling, prompt=self._prompt)
        replies = [[c.text, c.finish_reason, c.tokens] for c in result.completions]
        return ItemResult(key=item.key, rows=[{"replies": replies, "prompt_tokens": result.prompt_tokens}])

    def _with_columns(self, judged: Answered) -> FilterItem:
        """The case with the judge's reply as columns. A reply that was cut off has no verdict."""
        case, reply = judged
        if reply is None:
            return case
        answers = [self._prompt.yes_no(text, finish_reason) for text, finish_reason, _ in reply["replies"]]
        case.row |= {
            "solvable": majority(answers).value,
            "solvable_yes": answers.count(YesNo.YES),
            "solvable_votes": len(reply["replies"]),
            "judge_model": self._client.identity,
            "judge_reply": "\n\n".join(text for text, _, _ in reply["replies"]),
            "judge_tokens": sum(tokens for _, _, tokens in reply["replies"]),
            "judge_prompt_tokens": reply["prompt_tokens"],
        }
        return case


def judge_prompt(name: str) -> Prompt:
    """The prompt of a judge, whose reply is a Yes or No."""
    prompt = load_prompt(name)
    if prompt.kind is not ParserKind.verdict:
        raise ConfigError(f"prompt={name} asks for no Yes or No: a judge's prompt has parser.kind=verdict")
    return prompt


def load_prompt(name: str, domain: DomainConfig | None = None) -> Prompt:
    """The prompt of conf/prompt/NAME.yaml; one that interpolates `domain.subject` names that of `domain`."""
    path: Path = conf_dir() / "prompt" / f"{name}.yaml"
    if not path.is_file():
        have = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise ConfigError(f"prompt={name} is not one of {have}{nearest(name, have.split(', '))}")
    known = {"domain": {"subject": domain.subject}} if domain else {}
    composed = OmegaConf.create({**known, "prompt": OmegaConf.load(path)})
    return Prompt(build(composed.prompt, PromptConfig, key=f"prompt {name}"))
