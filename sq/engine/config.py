"""What every engine's config is: something that can start an engine on a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

from sq.core.config import flatten, setting
from sq.engine.base import Engine
from sq.models.load import ModelConfig, architectures, context_length, fingerprint, is_scorer


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Base of the engines' configs."""

    reads_ids: ClassVar[bool] = True
    """Whether prompts go to it as token ids of the job's model, made by the chat contract; else as chat messages."""
    loads_weights: ClassVar[bool] = False
    """Whether it serves any model that it is given; else what stands in the model's place."""
    seed_bits: ClassVar[int] = 63
    """Bits of a seed that it tells apart. With fewer, requests with one prompt may draw the same: see `questions`."""
    ignored_fields: ClassVar[Mapping[str, str]] = {
        "max_failures": "when the stage stops",
        "reject_failed": "what becomes of a row without a result",
    }
    """Fields of this class that change no result beyond rounding, each with the reason; a subclass adds its own."""

    max_failures: float = setting(
        0.01, ge=0, le=1, help="share of failed requests, beyond the first three, that stops a stage; 0: the first"
    )
    reject_failed: bool = setting(False, help="reject rows whose requests failed, in place of asking again next time")

    def identity(self, model: ModelConfig) -> str:
        """The weights that answer, or what stands in their place: for a column of rows."""
        return fingerprint(model)

    def resolved(self, model: ModelConfig) -> Self:
        """The same with what `auto` comes to for `model` here, so that a replica elsewhere does not decide anew."""
        return self

    @classmethod
    def all_ignored_fields(cls) -> set[str]:
        """Its `ignored_fields` and those of its bases."""
        return {name for kind in cls.__mro__ for name in vars(kind).get("ignored_fields", ())}

    def fingerprint_fields(self, model: ModelConfig) -> dict[str, Any]:
        """What decides its results beside the weights, known before it starts: for ledgers, rows' keys and stores."""
        ignored, resolved = self.all_ignored_fields(), self.resolved(model)
        counted = {f.name: getattr(resolved, f.name) for f in fields(self) if f.name not in ignored}
        kind = type(self).__name__.removesuffix("Config").lower()
        return {**flatten(counted, "engine"), "engine": kind, "engine.seed_bits": self.seed_bits}

    @property
    def api_prices(self) -> tuple[float, float] | None:
        """Dollars of a million tokens in and out, 0 where not given, of an API; None: its tokens are not paid for."""
        return None

    def determinism(self, model: ModelConfig) -> dict[str, str]:
        """When an equal request gets an equal text, as far as its settings tell: recorded with a stage's metrics."""
        return {"repeats": "not known"}

    def can_score(self, model: ModelConfig) -> bool:
        """Whether it scores with this model, known before it starts."""
        return is_scorer(model)

    def context(self, model: ModelConfig) -> int | None:
        """How many tokens a prompt and its reply may have together, known before it starts; None: not known here."""
        return None

    def too_long(self, model: ModelConfig, *, max_tokens: int, prompt: int, setting: str) -> str | None:
        """What to say before a run whose replies may not become as long as allowed; None where they may.

        Args:
            model: what is served.
            max_tokens: the longest reply allowed.
            prompt: tokens of the shortest prompt there can be.
            setting: the key that sets `max_tokens`.
        """
        context = self.context(model)
        if context is None or prompt + max_tokens <= context:
            return None
        room = max(context - prompt, 0)
        return (
            f"{setting}={max_tokens} does not fit: the context of model {model.name} is {context:,} tokens here, and "
            f"the shortest prompt takes {prompt}. Replies are cut off at {room:,} tokens at most. Set {setting}={room} "
            "or less, or a longer context (engine.max_model_len, model.max_length), or choose a model that has one"
        )

    def for_another(self, model: ModelConfig) -> Self:
        """The same for a second model, without what was set for the first."""
        return self

    def one_of(self, workers: int) -> Self:
        """The same for one of several workers, which share what is bounded for all of them."""
        return self

    @property
    def gpus(self) -> int:
        """How many GPUs it takes, where there are any."""
        return 0

    def on_gpu(self) -> Self:
        """The same for a machine with a GPU, whatever this one has."""
        return self

    def prepare(self) -> None:
        """Set what must stand in the environment before torch is imported: called first of all by a job that runs."""

    def create(self, model: ModelConfig) -> Engine:
        """Start the engine on `model`."""
        raise TypeError(f"{type(self).__name__} starts no engine")


@dataclass(frozen=True, kw_only=True)
class LocalEngineConfig(EngineConfig):
    """Base of the engines that load a model's weights."""

    loads_weights: ClassVar[bool] = True
    ignored_fields: ClassVar[Mapping[str, str]] = {
        "step_reward": "counts where the model rewards steps, and only there"
    }

    dtype: str = setting(
        "auto",
        choices=("auto", "float32", "bfloat16", "float16"),
        help="auto: model.dtype, and where that is auto too as in the weights; fp32 for bf16 on a CPU that has none; "
        "vLLM on a GPU generates in bf16 with weights in fp32",
    )
    max_model_len: int | None = setting(None, ge=16, help="context length; default: the model's own")
    step_reward: str = setting(
        "min", choices=("min", "product", "last"), help="the score of a process reward model, of its steps' rewards"
    )

    @property
    def gpus(self) -> int:
        """One, for one copy of the model."""
        return 1

    def determinism(self, model: ModelConfig) -> dict[str, str]:
        """In fp32 sums in another order hardly ever draw another token."""
        dtype = self.resolved(model).dtype
        return {"dtype": dtype, "repeats": "in any batch" if dtype == "float32" else "in batches of the same size"}

    def context(self, model: ModelConfig) -> int | None:
        """As set, else the model's own."""
        return self.max_model_len or context_length(model)

    def for_another(self, model: ModelConfig) -> Self:
        """With a context that the second model has too; a shorter one may be for the memory, and stays."""
        own = context_length(model)
        return replace(self, max_model_len=min(self.max_model_len, own)) if self.max_model_len and own else self

    def fingerprint_fields(self, model: ModelConfig) -> dict[str, Any]:
        """With the context that replies are cut off at."""
        steps = any("ProcessReward" in name for name in architectures(model))
        return {
            **super().fingerprint_fields(model),
            "engine.max_model_len": self.context(model),
            **({"engine.step_reward": self.step_reward} if steps else {}),
        }
