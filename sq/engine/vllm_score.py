"""vLLM as a pooling model: scores of reward models and regressors, on a CPU or a GPU.

Replies to one question share its blocks in the prefix cache, conversations of any length go together without padding,
and the numbers are the head's own, without vLLM's activation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from vllm import PoolingParams

from sq.core.errors import EngineError
from sq.engine.base import Request, Result, ScoreRequest, ScoreResult
from sq.engine.conversations import Conversations
from sq.engine.vllm_start import Prepared, RunningVLLM
from sq.models.load import ModelConfig

if TYPE_CHECKING:
    from sq.engine.vllm import VLLMConfig


class VLLMScorer(RunningVLLM):
    """Scores with one model; see `sq.engine.base.Engine`."""

    def __init__(self, config: VLLMConfig, model: ModelConfig) -> None:
        super().__init__(config, model, scores=True)
        hf_config = self.llm.llm_engine.model_config.hf_config
        try:
            self._conversations = Conversations(model, hf_config.to_dict(), self.max_len, config.step_reward)
            if not self._conversations.by_token and hf_config.num_labels != 1:
                raise EngineError(f"model {model.name} gives {hf_config.num_labels} numbers; a reward model gives one")
        except BaseException:
            self.close()
            raise

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """A scoring model does not generate."""
        raise EngineError(f"model {self.model.name} scores; it cannot generate. Choose a language model")

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[ScoreResult]:
        """Yield scores as they finish, with at most `window` conversations in the engine."""
        return self.stream(requests, self._prepare, self._result, ScoreResult)

    def _prepare(self, request: ScoreRequest) -> Prepared | ScoreResult:
        ids = self._conversations.ids(request)
        if isinstance(ids, ScoreResult):
            return ids
        task = "token_classify" if self._conversations.by_token else "classify"
        params = PoolingParams(task=task, use_activation=False, step_tag_id=self._conversations.step_id)
        return list(ids), {request.key: params}

    def _result(self, key: str, outputs: list[Any]) -> ScoreResult:
        data = outputs[0].outputs.data.float()
        return self._conversations.result(key, outputs[0].prompt_token_ids, data.reshape(-1, data.shape[-1]).tolist())
