"""The models that filters ask, made when they are first needed. Their engines share a GPU one after the other."""

from __future__ import annotations

from sq.core.tracking import ItemTrace
from sq.engine.config import EngineConfig
from sq.engine.hf import HFConfig
from sq.engine.meter import Usage
from sq.models.load import ModelConfig
from sq.synth.model_client import ModelClient


def like_the_judges(engine: EngineConfig) -> EngineConfig:
    """What serves a second model, unless the judge's engine serves one alone."""
    return engine if engine.loads_weights else HFConfig()


class FilterModels:
    """The judge (model= and engine= of the job) and the scorer of difficulty."""

    def __init__(self, model: ModelConfig, engine: EngineConfig, *, has_gpus: bool = True) -> None:
        self.usage = Usage()
        self._has_gpus = has_gpus
        self._model, self._engine = model, engine
        self._clients: dict[str, ModelClient] = {}

    def judge(self) -> ModelClient:
        """Says what can be solved."""
        return self._client("judge", self._model, self._engine)

    def scorer(self, model: ModelConfig, engine: EngineConfig | None = None) -> ModelClient:
        """Says how hard a question is; by an engine like the judge's, unless that serves one model alone."""
        return self._client("scorer", model, engine or like_the_judges(self._engine).for_another(model))

    def traces(self, limit: int) -> list[ItemTrace]:
        """What each was asked for its first items."""
        return [trace for client in self._clients.values() for trace in client.traces(limit)]

    def close(self) -> None:
        """Stop the engines. A model that is asked again starts its own again."""
        for client in self._clients.values():
            client.close()

    def _client(self, role: str, model: ModelConfig, engine: EngineConfig) -> ModelClient:
        if not self._has_gpus:
            raise TypeError(f"a filter asks the {role}, but none has asks_model = True, so that it would get no GPU")
        if role not in self._clients:
            engine.prepare()
            self._clients[role] = ModelClient(model, engine, self.usage)
        return self._clients[role]
