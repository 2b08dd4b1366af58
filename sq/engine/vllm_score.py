"""vLLM as a pooling model: scores of reward models and regressors, on a CPU or a GPU.

Replies to one question share its blocks in the prefix cache, conversations of any length go together without padding,
and the number is the head's own, without vLLM's sigmoid.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from sq.core.errors import EngineError
from sq.engine.base import Request, Result, ScoreRequest, ScoreResult
from sq.engine.exchange import OVERFLOWED, Exchange
from sq.engine.vllm import Prepared, VLLMConfig, raw_score, stream, submit_to
from sq.engine.vllm_start import adapter_request, start, stop
from sq.models.load import ModelConfig


class VLLMScorer:
    """Scores with one model; see `sq.engine.base.Engine`."""

    def __init__(self, config: VLLMConfig, model: ModelConfig) -> None:
        self.config, self.model = config, model
        self.fingerprint = config.identity(model)
        self._llm = start(config, model, scores=True)
        model_config = self._llm.llm_engine.model_config
        if model_config.hf_config.num_labels != 1:
            self.close()
            raise EngineError(
                f"model {model.name} gives {model_config.hf_config.num_labels} numbers; a reward model gives one"
            )
        self._exchange = Exchange(model, model_config.hf_config.to_dict(), int(model_config.max_model_len))
        self._lora = adapter_request(config)

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """A scoring model does not generate."""
        raise EngineError(f"model {self.model.name} scores; it cannot generate. Choose a language model")

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[ScoreResult]:
        """Yield scores as they finish, with at most `window` conversations in the engine."""
        return stream(self._llm.llm_engine, requests, self.config.window, self._submit, self._result)

    def close(self) -> None:
        """Free the model. Safe to call twice."""
        llm, self._llm = self._llm, None
        stop(llm)

    def _submit(self, request: ScoreRequest) -> list[str] | ScoreResult:
        """Hand the conversation to vLLM; a result that says what is wrong with it, if it cannot be scored."""
        return submit_to(
            self._llm, self.model.name, self._lora, lambda: self._prepare(request),
            lambda error: ScoreResult(key=request.key, error=error),
        )  # fmt: skip

    def _prepare(self, request: ScoreRequest) -> Prepared | ScoreResult:
        ids = self._exchange.ids(request)
        return ids if isinstance(ids, ScoreResult) else (list(ids), {request.key: raw_score()})

    def _result(self, key: str, outputs: list[Any]) -> ScoreResult:
        value = float(outputs[0].outputs.data.reshape(-1)[0]) + self._exchange.bias
        if not math.isfinite(value):
            return ScoreResult(key=key, error=OVERFLOWED)
        return ScoreResult(key=key, score=value, tokens=len(outputs[0].prompt_token_ids))
