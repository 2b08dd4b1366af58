"""vLLM in this process: the engine's own step loop with a bounded window of requests, and no barrier between batches.

CPU and GPU from the same config. A request for n completions is one request, so its prompt is prefilled once. Stops are
token ids, seeds come with each request, and the reason why a text ended is kept.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sq.core.config import nearest, setting
from sq.core.errors import EngineError
from sq.engine.base import Completion, Request, Result, ScoreRequest, ScoreResult
from sq.engine.config import EngineConfig
from sq.models.load import ModelConfig, fingerprint, locate

if TYPE_CHECKING:
    from vllm.outputs import RequestOutput

log = logging.getLogger(__name__)
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks of adapters that vLLM makes room for."""


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
        return fingerprint(model) if self.lora is None else f"{fingerprint(model)}+{_adapter(self.lora)[1]}"

    def prepare(self) -> None:
        """Settings that torch and vLLM read when they are imported."""
        _environment(self)

    def create(self, model: ModelConfig) -> VLLMEngine:
        """Start the engine on `model`."""
        return VLLMEngine(self, model)


class VLLMEngine:
    """Serves one model; see `sq.engine.base.Engine`."""

    def __init__(self, config: VLLMConfig, model: ModelConfig) -> None:
        self.config, self.model = config, model
        self.fingerprint = config.identity(model)
        config.prepare()
        try:
            with _no_collection():
                from vllm import LLM
                from vllm.lora.request import LoRARequest
                from vllm.platforms import current_platform

                from sq.engine.vllm_sampling import NucleusProcessor
        except ImportError as error:
            raise EngineError(
                f"vLLM is not installed ({error}). Install the extra 'cpu' or 'cuda', or use engine=hf"
            ) from error
        try:
            llm = LLM(
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
                logits_processors=[NucleusProcessor],
                disable_log_stats=True,
                use_tqdm_on_load=False,
                **_prefill(bool(current_platform.is_cpu())),
                **_attention(config.attention),
                **_room_for_adapter(config.lora),
            )
        except (ValueError, RuntimeError, OSError) as error:
            raise EngineError(f"vLLM cannot start with model {model.name} ({model.path}): {error}") from error
        self._llm: Any = llm
        self._max_len = int(llm.llm_engine.model_config.max_model_len)
        self._own_top_p = bool(current_platform.is_cpu())
        self._lora = LoRARequest("adapter", 1, config.lora) if config.lora else None

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yield results as they finish, with at most `window` requests in the engine."""
        engine, source, exhausted = self._llm.llm_engine, iter(requests), False
        waiting: dict[str, Request] = {}
        try:
            while True:
                while not exhausted and len(waiting) < self.config.window:
                    request = next(source, None)
                    if request is None:
                        exhausted = True
                    elif problem := self._submit(request):
                        yield Result(key=request.key, error=problem)
                    else:
                        waiting[request.key] = request
                if not waiting:
                    return
                for output in engine.step():
                    if output.finished:
                        del waiting[output.request_id]
                        yield _result(output)
        finally:
            if waiting:
                engine.abort_request(list(waiting))

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[ScoreResult]:
        """A generating engine cannot score."""
        raise EngineError(f"model {self.model.name} is served to generate; it cannot score. Choose a reward model")

    def close(self) -> None:
        """Free the model. vLLM's parallel state is torn down, so that another engine may start in this process."""
        if self._llm is None:
            return
        core, self._llm = self._llm.llm_engine.engine_core, None
        core.shutdown()  # also collects what it frees, once nobody else holds it

    def _submit(self, request: Request) -> str | None:
        """Hand the request to vLLM; what is wrong with it, if it cannot be served."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError

        from sq.engine.vllm_sampling import TOP_P

        sampling = request.sampling
        try:
            ids = self._prompt_ids(request)
            room = self._max_len - len(ids)
            if not ids or room < 1:
                return f"the prompt has {len(ids)} tokens, and the model's context {self._max_len}"
            own_top_p = self._own_top_p and sampling.temperature > 0 and sampling.top_p < 1 and not sampling.top_k
            params = SamplingParams(
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
            self._llm.llm_engine.add_request(request.key, {"prompt_token_ids": ids}, params, lora_request=self._lora)
        except EngineDeadError as error:
            raise EngineError(f"vLLM died with model {self.model.name}: {error}. Run the same command again") from error
        except Exception as error:  # whatever it dislikes about one request must not end the others
            return str(error).splitlines()[0] or type(error).__name__
        return None

    def _prompt_ids(self, request: Request) -> list[int]:
        if request.prompt_ids is not None:
            return list(request.prompt_ids)
        tokenizer = self._llm.get_tokenizer()
        messages = [dict(m) for m in request.messages or ()]
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
        return list(ids)


def _prefill(on_cpu: bool) -> dict[str, Any]:
    """A prompt in one piece on a CPU: vLLM rewinds the generator of a seeded request whose prompt it cuts into chunks,
    which torch's CPU generator cannot do, and the whole engine dies of it."""
    return {"enable_chunked_prefill": False} if on_cpu else {}


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


def _room_for_adapter(lora: str | None) -> dict[str, Any]:
    """What makes vLLM ready for the adapter; nothing, where there is none."""
    if lora is None:
        return {}
    rank = _adapter(lora)[0]
    return {"enable_lora": True, "max_loras": 1, "max_lora_rank": next((r for r in RANKS if r >= rank), rank)}


def _adapter(directory: str) -> tuple[int, str]:
    """Rank and digest of an adapter."""
    files = [Path(directory) / name for name in ("adapter_config.json", "adapter_model.safetensors")]
    if missing := [file.name for file in files if not file.is_file()]:
        raise EngineError(
            f"engine.lora={directory!r} has no {' and no '.join(missing)}: give the directory of a LoRA adapter that "
            "peft has saved, with its weights as safetensors"
        )
    digest = hashlib.blake2b(b"".join(file.read_bytes() for file in files), digest_size=4).hexdigest()
    return int(json.loads(files[0].read_text())["r"]), digest


@contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection while vLLM is imported, nor of what that made: a quarter of the import's time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
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
