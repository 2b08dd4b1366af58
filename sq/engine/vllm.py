"""vLLM in this process: the engine's own step loop with a bounded window of requests, and no barrier between batches.

CPU and GPU from the same config. A request for n completions is one request, so its prompt is prefilled once. Stops are
token ids, seeds come with each request, and the reason why a text ended is kept. On a CPU sampling is our own
(`sq/engine/vllm_sampling.py`); a request for n completions is n names there, whose prompt the cache has once.
"""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from sq.core.config import setting
from sq.core.errors import EngineError
from sq.engine import vllm_environment
from sq.engine.base import Completion, Engine, Request, Result, ScoreRequest, ScoreResult
from sq.engine.config import LocalEngineConfig
from sq.engine.vllm_start import SPEED_ONLY, Prepared, RunningVLLM, adapter, check_arguments
from sq.models.load import Dtype, ModelConfig, computed_in, fingerprint, is_scorer

if TYPE_CHECKING:
    from vllm.outputs import RequestOutput


GREEDY_BELOW = 1e-5
"""Temperatures under it are greedy."""


@dataclass(frozen=True, kw_only=True)
class VLLMConfig(LocalEngineConfig):
    """How vLLM serves a model; one config for CPU and GPU."""

    ignored_fields: ClassVar = {
        "window": "how many requests are in the engine at once",
        "max_num_seqs": "how many sequences go together",
        "tensor_parallel": "the same numbers up to rounding",
        "gpu_memory": "room for the key-value cache",
        "cpu_cache_gib": "room for the key-value cache",
        "eager": "the same numbers up to rounding",
        "attention": "the same numbers up to rounding",
    }

    window: int = setting(512, ge=1, help="requests in the engine at once")
    max_num_seqs: int = setting(256, ge=1, help="sequences decoded together")
    tensor_parallel: int = setting(1, ge=1, help="GPUs that share one model")
    gpu_memory: float = setting(0.9, gt=0, le=1, help="share of the GPU's memory to use")
    cpu_cache_gib: int = setting(1, ge=1, help="memory for the key-value cache on a CPU, in GiB")
    eager: bool | None = setting(None, help="skip compilation and CUDA graphs: starts sooner; default: on a CPU")
    quantization: str | None = setting(None, help="bitsandbytes, fp8, awq, ... ; default: as the weights are")
    attention: str | None = setting(None, help="FLASH_ATTN, FLASHINFER, TRITON_ATTN, ... ; default: vLLM's choice")
    lora: str | None = setting(None, help="directory of a LoRA adapter to put on the model")
    args: dict[str, Any] = setting({}, help="any other field of vLLM's EngineArgs, as in {kv_cache_dtype: fp8}")
    seeds: str = setting(
        "row",
        choices=("row", "engine", "none"),
        help="row: each request its own; engine: one for all, the same again only in the same order; none: by chance",
    )

    def __post_init__(self) -> None:
        check_arguments(self.args)
        if self.own_sampling and "logits_processors" in self.args:
            raise ValueError(
                "args has logits_processors, and on a CPU engine.seeds=row samples by one of its own, which they would "
                "replace: give engine.seeds=engine or none with them"
            )

    @property
    def seed_bits(self) -> int:  # type: ignore[override]  # on a GPU it is not our sampling
        """Bits of a seed that it tells apart: vLLM's sampling on a GPU mixes the 64 that it takes into 32, in fp32."""
        return 63 if vllm_environment.on_cpu() or self.args.get("use_fp64_gumbel") else 32

    @property
    def own_sampling(self) -> bool:
        """Whether the sampling is ours (`vllm_sampling.py`)."""
        return vllm_environment.on_cpu() and self.seeds == "row"

    @property
    def gpus(self) -> int:
        """Those that share the model: vLLM's `world_size`."""
        more = (self.args.get(name, 1) for name in ("pipeline_parallel_size", "prefill_context_parallel_size"))
        return self.tensor_parallel * math.prod(map(int, more))

    def identity(self, model: ModelConfig) -> str:
        """The weights, and the adapter on them."""
        return fingerprint(model) if self.lora is None else f"{fingerprint(model)}+{adapter(self.lora)[1]}"

    def resolved(self, model: ModelConfig) -> Self:
        """With the number format. Weights in fp32 generate in bf16 on a GPU, as vLLM's own `auto` has it."""
        dtype = computed_in(model, self.dtype, "cpu" if vllm_environment.on_cpu() else "cuda")
        chosen = self.dtype != "auto" or model.dtype is not Dtype.AUTO
        if dtype == "float32" and not (chosen or vllm_environment.on_cpu() or is_scorer(model)):
            dtype = "bfloat16"
        return replace(self, dtype=dtype)

    def fingerprint_fields(self, model: ModelConfig) -> dict[str, Any]:
        """With the adapter, and whose sampling it is: the same seed draws other tokens."""
        args = {name: value for name, value in self.args.items() if name not in SPEED_ONLY}
        return LocalEngineConfig.fingerprint_fields(replace(self, args=args), model) | {
            "engine.lora": self.lora and adapter(self.lora)[1],
            "engine.sampler": "sq" if self.own_sampling else "vllm",
        }

    def for_another(self, model: ModelConfig) -> Self:
        """Without the adapter, the weights' form and `args` but those for speed: a draft model, an override, ..."""
        args = {name: value for name, value in self.args.items() if name in SPEED_ONLY}
        return replace(LocalEngineConfig.for_another(self, model), lora=None, quantization=None, args=args)

    def determinism(self, model: ModelConfig) -> dict[str, str]:
        """On a GPU with whose sampling it is, and whether vLLM's kernels give the same in any batch."""
        plain = super().determinism(model) | {"seeds": self.seeds, "sampler": "sq" if self.own_sampling else "vllm"}
        if not vllm_environment.on_cpu():
            invariant = os.environ.get("VLLM_BATCH_INVARIANT", "0") == "1"
            plain |= {
                "sampler": "vllm: a seed is hashed with a token's position",
                "batch_invariant": "on" if invariant else "off",
                "repeats": "in any batch" if invariant else "in batches of the same size",
            }
        other_seeds = {"engine": "in the same order and batches", "none": "never"}
        return plain | ({"repeats": other_seeds[self.seeds]} if self.seeds in other_seeds else {})

    def prepare(self) -> None:
        """Settings that torch and vLLM read when they are imported."""
        vllm_environment.environment(self.cpu_cache_gib)

    def create(self, model: ModelConfig) -> Engine:
        """Start the engine on `model`: to score, where it is a reward model or a regressor, else to generate."""
        self.prepare()
        if is_scorer(model):
            from sq.engine.vllm_score import VLLMScorer

            return VLLMScorer(self, model)
        return VLLMEngine(self, model)


class VLLMEngine(RunningVLLM):
    """Generates with one model; see `sq.engine.base.Engine`."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yield results as they finish, with at most `window` requests in the engine."""
        if self.config.seeds != "row":
            requests = self._seeded(iter(requests))
        return self.stream(requests, self._prepare, _result, Result)

    def _seeded(self, requests: Iterator[Request]) -> Iterator[Request]:
        """The same requests, once the engine's own generators have a seed: the first request's, or one by chance.

        So a run that is continued, or another replica, does not draw again what has been drawn.
        """
        first = next(requests, None)
        if first is not None:
            seed = first.seed if self.config.seeds == "engine" else secrets.randbits(63)
            self.llm.llm_engine.collective_rpc(_seed_worker, args=(seed % 2**32,))
            yield first
        yield from requests

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[ScoreResult]:
        """A generating engine cannot score."""
        raise EngineError(f"model {self.model.name} is served to generate; it cannot score. Choose a reward model")

    def _prepare(self, request: Request) -> Prepared | Result:
        """Prompt and parameters by name, or a result that says why it cannot be served."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        from sq.engine.vllm_sampling import DRAW

        sampling = request.sampling
        ids = self._prompt_ids(request)
        room = self.max_len - len(ids)
        if not ids or room < 1:
            problem = f"the prompt has {len(ids)} tokens, and the model's context {self.max_len}"
            return Result(key=request.key, error=problem, refused=True)

        def params(**more: Any) -> Any:
            return SamplingParams(
                max_tokens=min(sampling.max_tokens, room),
                stop_token_ids=list(sampling.stop_token_ids),
                stop=list(request.stop),
                skip_special_tokens=True,
                output_kind=RequestOutputKind.FINAL_ONLY,
                **more,
            )

        how = {"temperature": sampling.temperature, "top_p": sampling.top_p}
        seed = request.seed if self.config.seeds == "row" else None
        checked = params(seed=seed, n=sampling.n, top_k=sampling.top_k, **how)  # or an error: what vLLM dislikes
        if not self.config.own_sampling or sampling.temperature < GREEDY_BELOW or sampling.top_k > 0:
            return ids, {request.key: checked}
        draws = [{**how, "seed": request.seed, "index": i} for i in range(sampling.n)]
        return ids, {f"{request.key}/{i}": params(temperature=0.0, extra_args={DRAW: d}) for i, d in enumerate(draws)}

    def _prompt_ids(self, request: Request) -> list[int]:
        if request.prompt_ids is not None:
            return list(request.prompt_ids)
        tokenizer = self.llm.get_tokenizer()
        messages = [dict(m) for m in request.messages or ()]
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
        return list(ids)


def _seed_worker(worker: Any, seed: int) -> None:
    """Seed every generator of a worker; numpy takes 32 bits."""
    from vllm.utils.torch_utils import set_random_seed

    set_random_seed(seed)


def _result(key: str, outputs: list[RequestOutput]) -> Result:
    """The completions in their order: of one output with all of them, or of one output each."""
    reasons = [c.finish_reason for output in outputs for c in output.outputs]
    broken = [reason for reason in reasons if reason not in ("stop", "length")]
    if broken:  # a key-value cache that could not be read, say: vLLM's server answers HTTP 500
        return Result(key=key, error=f"vLLM ended a completion with finish_reason={broken[0]!r}")
    completions = tuple(
        Completion(
            text=c.text,
            finish_reason=str(c.finish_reason),
            token_ids=tuple(c.token_ids),
            tokens=len(c.token_ids),
        )
        for output in outputs
        for c in sorted(output.outputs, key=lambda c: c.index)
    )
    return Result(key=key, completions=completions, prompt_tokens=len(outputs[0].prompt_token_ids or ()))
