"""Hugging Face transformers in this process, for machines without vLLM: macOS, Windows, odd accelerators.

The same contract as vLLM: requests are read a window at a time, sorted by length and decoded in batches
(`hf_decode.py`); reward models and regressors score in batches of like length (`hf_score.py`).
"""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Self

from sq.core.config import setting
from sq.core.errors import EngineError
from sq.engine import engine_log
from sq.engine.base import Completion, Request, Result, Sampling, ScoreRequest, ScoreResult
from sq.engine.config import LocalEngineConfig
from sq.models.load import (
    ModelConfig,
    computed_in,
    fingerprint,
    is_scorer,
    load_classifier,
    load_model,
    load_tokenizer,
)

if TYPE_CHECKING:
    from sq.engine.hf_decode import PartialCompletion
    from sq.engine.hf_score import Scorer

log = logging.getLogger(__name__)
STOP_WINDOW = 32
"""Tokens at the end of a text in which a request's `stop` is looked for."""


@dataclass(frozen=True, kw_only=True)
class HFConfig(LocalEngineConfig):
    """How transformers serves a model."""

    ignored_fields: ClassVar = {
        "device": "the same numbers up to rounding; the number format counts",
        "attention": "the same numbers up to rounding",
        "window": "how many requests are read at a time",
        "batch_size": "how many sequences go together",
        "batch_tokens": "how many tokens go together",
    }

    device: str = setting("auto", help="auto (CUDA, then Apple's MPS, then CPU), cpu, cuda, cuda:1, mps")
    attention: str = setting("sdpa", choices=("sdpa", "eager", "flash_attention_2"), help="how attention is computed")
    window: int = setting(256, ge=1, help="requests read, and sorted by length, at a time")
    batch_size: int = setting(32, ge=1, help="sequences decoded, or scored, together")
    batch_tokens: int = setting(16384, ge=16, help="tokens of a batch with its padding: bounds the memory")

    def resolved(self, model: ModelConfig) -> Self:
        """With the number format."""
        return replace(self, dtype=computed_in(model, self.dtype, _device_name(self.device).partition(":")[0]))

    def on_gpu(self) -> Self:
        """On a CUDA device, where it says nothing else."""
        return replace(self, device="cuda") if self.device == "auto" else self

    def create(self, model: ModelConfig) -> HFEngine:
        """Start the engine on `model`."""
        return HFEngine(self, model)


class HFEngine:
    """Serves one model; see `sq.engine.base.Engine`."""

    def __init__(self, config: HFConfig, model: ModelConfig) -> None:
        self.config, self.model = config, model
        self.fingerprint = fingerprint(model)
        self._scores = is_scorer(model)
        from sq.engine.hf_score import own_code

        engine_log.take_over("transformers")
        device = _device(config.device)
        dtype = config.resolved(model).dtype
        try:
            load = load_classifier if self._scores else load_model
            with own_code(model):
                self._loaded: Any = load(model, dtype=dtype, attention=config.attention).eval().to(device)
                self._tokenizer: Any = load_tokenizer(model)
        except (RuntimeError, ImportError) as error:  # no room for it, no FlashAttention
            raise EngineError(
                f"model {model.name} ({model.path}) cannot be put on {device}: {str(error).splitlines()[0]}. "
                f"Choose another engine.device, engine.dtype or engine.attention{engine_log.where_to_look(error)}"
            ) from error
        self._max_len = self._context()
        self._at_once = config.batch_size
        self._scorer: Scorer | None = None

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yield results batch by batch, reading a window of requests at a time."""
        if self._scores:
            raise EngineError(f"model {self.model.name} scores; it cannot generate. Choose a language model")
        return self._generate(iter(requests))

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[ScoreResult]:
        """Yield scores batch by batch."""
        if not self._scores:
            raise EngineError(f"model {self.model.name} generates; it cannot score. Choose a reward model")
        from sq.engine.hf_score import Scorer

        if self._scorer is None:
            self._scorer = Scorer(self._live(), self.model, self.config, self._max_len)
        return self._scorer.score(iter(requests))

    def close(self) -> None:
        """Free the model and what the accelerator kept for it."""
        if self._loaded is None:
            return
        self._loaded = self._tokenizer = self._scorer = None
        _free()

    def _generate(self, source: Iterator[Request]) -> Iterator[Result]:
        while window := list(islice(source, self.config.window)):
            rows: list[PartialCompletion] = []
            open_rows: dict[int, tuple[Request, list[PartialCompletion]]] = {}
            for request in window:
                ready = self._rows(request)
                if isinstance(ready, Result):
                    yield ready
                    continue
                rows.extend(ready)
                open_rows.update((id(row), (request, ready)) for row in ready)
            rows.sort(key=lambda row: (len(row.prompt), row.prompt))
            while rows:
                batch = self._next_batch(rows)
                self._decode(batch)
                for row in batch:
                    request, siblings = open_rows.pop(id(row))
                    if not any(id(sibling) in open_rows for sibling in siblings):
                        yield self._result(request, siblings)

    def _rows(self, request: Request) -> list[PartialCompletion] | Result:
        """A row for each completion asked for, or a result that says what is wrong with the request."""
        from sq.engine.hf_decode import PartialCompletion

        sampling = request.sampling
        ids = self._prompt_ids(request)
        if isinstance(ids, str):
            return Result(key=request.key, error=ids)
        room = self._max_len - len(ids)
        if not ids or room < 1:
            too_long = f"the prompt has {len(ids)} tokens, and the model's context {self._max_len}"
            return Result(key=request.key, error=too_long, refused=True)
        size = self._live().get_input_embeddings().num_embeddings
        if wrong := next((i for i in ids if not 0 <= i < size), None):
            unknown = f"prompt id {wrong} is not in the model's vocabulary of {size}"
            return Result(key=request.key, error=unknown, refused=True)
        if problem := _problem(sampling):
            return Result(key=request.key, error=problem)
        stops = frozenset((*sampling.stop_token_ids, *self._ends()))
        how: dict[str, Any] = {"prompt": ids, "sampling": sampling, "seed": request.seed, "stops": stops}
        if request.stop:
            how["stopped"] = lambda ids: any(stop in self._text(ids[-STOP_WINDOW:]) for stop in request.stop)
        limit = min(sampling.max_tokens, room)
        return [PartialCompletion(**how, index=i, limit=limit) for i in range(sampling.n)]

    def _prompt_ids(self, request: Request) -> tuple[int, ...] | str:
        if request.prompt_ids is not None:
            return tuple(request.prompt_ids)
        messages = [dict(m) for m in request.messages or ()]
        if not messages:
            return "the request has neither prompt ids nor messages"
        try:
            ids = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=False
            )
        except Exception as error:  # a template is a program: it may refuse a conversation in any way
            return f"the chat template of {self.model.name} refuses these messages: {error}"
        return tuple(ids)

    def _next_batch(self, rows: list[PartialCompletion]) -> list[PartialCompletion]:
        """Take the longest rows off the end while they fit together: what memory does not suffice for comes first."""
        size, limit, width = 0, 0, len(rows[-1].prompt)
        for row in reversed(rows[-self._at_once :]):
            limit = max(limit, row.limit)
            if size and (size + 1) * (width + limit) > self.config.batch_tokens:
                break
            size += 1
        batch = rows[-size:]
        del rows[-size:]
        return batch

    def _decode(self, rows: Sequence[PartialCompletion]) -> None:
        """Complete rows; where memory does not suffice, half as many at a time."""
        from sq.engine.hf_decode import decode

        try:
            decode(self._live(), rows)
            return
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            problem = str(error).splitlines()[0]
        _free()
        for row in rows:
            row.restart()
        if len(rows) == 1:
            rows[0].finish, rows[0].problem = "error", f"out of memory for this request alone: {problem}"
            return
        self._at_once = min(self._at_once, len(rows) // 2)
        log.warning("%d sequences do not fit into memory together; going on with %d", len(rows), self._at_once)
        self._decode(rows[: len(rows) // 2])
        self._decode(rows[len(rows) // 2 :])

    def _result(self, request: Request, rows: Sequence[PartialCompletion]) -> Result:
        if problem := next((row.problem for row in rows if row.problem), None):
            return Result(key=request.key, error=problem)
        completions = tuple(
            Completion(
                text=_before(self._text(row.text_ids), request.stop),
                finish_reason=row.finish,
                token_ids=tuple(row.ids),
                tokens=len(row.ids),
            )
            for row in rows
        )
        return Result(key=request.key, completions=completions, prompt_tokens=len(rows[0].prompt))

    def _text(self, ids: list[int]) -> str:
        """The text of `ids`, without the half of a character that it may have been cut off in."""
        text = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text).rstrip("\ufffd")

    def _live(self) -> Any:
        if self._loaded is None:
            raise EngineError(f"the engine of model {self.model.name} is closed")
        return self._loaded

    def _ends(self) -> tuple[int, ...]:
        """Ids that end every text, as the model and its tokenizer have them."""
        eos = self._loaded.generation_config.eos_token_id
        ids = [*eos] if isinstance(eos, list | tuple) else [eos]
        return tuple(i for i in (*ids, self._tokenizer.eos_token_id) if i is not None)

    def _context(self) -> int:
        own = self._loaded.config.get_text_config().to_dict().get("max_position_embeddings")
        asked = self.config.max_model_len or self.model.max_length
        if asked and own and asked > own:
            raise EngineError(f"engine.max_model_len={asked}: the context of model {self.model.name} has {own} tokens")
        return int(asked or own or 1 << 20)


def _before(text: str, stops: Sequence[str]) -> str:
    """The text before the first of `stops` in it."""
    for stop in stops:
        text = text.partition(stop)[0]
    return text


def _problem(sampling: Sampling) -> str | None:
    """What is wrong with `sampling`."""
    checks = (
        (sampling.n >= 1, f"n={sampling.n} must be at least 1"),
        (math.isfinite(sampling.temperature) and sampling.temperature >= 0, f"temperature={sampling.temperature}"),
        (0 < sampling.top_p <= 1, f"top_p={sampling.top_p} must be above 0 and at most 1"),
        (sampling.top_k >= -1, f"top_k={sampling.top_k} must be 0 (all) or more"),
        (sampling.max_tokens >= 1, f"max_tokens={sampling.max_tokens} must be at least 1"),
    )
    return next((text for good, text in checks if not good), None)


def _device_name(name: str) -> str:
    import torch

    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def _device(name: str) -> Any:
    """The device called `name`, checked to be there."""
    import torch

    try:
        device = torch.device(_device_name(name))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise EngineError(
            f"engine.device={name!r} is not on this machine: {str(error).splitlines()[0]}. Use auto or cpu"
        ) from error
    return device


def _out_of_memory(error: RuntimeError) -> bool:
    import torch

    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text or "out of memory" in text


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
