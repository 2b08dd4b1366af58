"""vLLM at work: what it is started with, so that the same config serves on a CPU and a GPU, and its step loop."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from sq.core.config import nearest
from sq.core.errors import EngineError, SqError
from sq.engine import engine_log, vllm_environment
from sq.models.load import ModelConfig, locate

if TYPE_CHECKING:
    from sq.engine.vllm import VLLMConfig


Prepared: TypeAlias = tuple[list[int], dict[str, Any]]
"""A prompt, and by name in the engine the parameters of what is asked of it."""
AnyResult = TypeVar("AnyResult")
SETTINGS = {
    **dict.fromkeys(("model", "tokenizer", "revision", "trust_remote_code"), "model.*"),
    **{name: f"engine.{name}" for name in ("dtype", "max_model_len", "max_num_seqs", "quantization")},
    **dict.fromkeys(("enable_lora", "max_loras", "max_lora_rank"), "engine.lora"),
    "attention_backend": "engine.attention",
    "tensor_parallel_size": "engine.tensor_parallel",
    "data_parallel_size": "workers=N of synthesize.py, each with an engine",
    "gpu_memory_utilization": "engine.gpu_memory",
    "enforce_eager": "engine.eager",
    "seed": "engine.seeds",
    "runner": "the model's architecture",
}
"""Fields of vLLM's EngineArgs that follow from something else."""
SPEED_ONLY = frozenset(
    [
        "max_num_batched_tokens",
        "async_scheduling",
        "performance_mode",
        "enable_prefix_caching",
        "enable_chunked_prefill",
    ]
    + ["block_size", "disable_log_stats", "download_dir", "compilation_config", "cpu_offload_gb"]
    + ["disable_custom_all_reduce", "distributed_executor_backend", "pipeline_parallel_size", "kv_cache_memory_bytes"]
)
"""Fields that change no result beyond rounding."""

_PLAIN: dict[str, tuple[type, ...]] = {
    "int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "None": (type(None),),
    "list": (list, tuple), "dict": (Mapping,),
}  # fmt: skip
"""Types whose values a YAML may hold."""
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks of LoRA adapters that vLLM makes room for."""


class RunningVLLM:
    """vLLM on one model: a bounded window of requests goes through its own step loop."""

    def __init__(self, config: VLLMConfig, model: ModelConfig, *, scores: bool = False) -> None:
        self.config, self.model = config, model
        self.fingerprint = config.identity(model)
        self.llm: Any = start(config, model, scores=scores)
        self.max_len = int(self.llm.llm_engine.model_config.max_model_len)
        self._adapter = None
        if config.lora is not None:
            from vllm.lora.request import LoRARequest

            self._adapter = LoRARequest("adapter", 1, config.lora)

    def close(self) -> None:
        """Free the model, and vLLM's parallel state, so that another may start in this process. Safe to call twice."""
        llm, self.llm = self.llm, None
        if llm is not None:
            core, llm.llm_engine = llm.llm_engine.engine_core, None
            core.shutdown()  # also collects what it frees

    def stream(
        self,
        requests: Iterable[Any],
        prepare: Callable[[Any], Prepared | AnyResult],
        result: Callable[[str, list[Any]], AnyResult],
        kind: Callable[..., AnyResult],
    ) -> Iterator[AnyResult]:
        """Results as they finish, with at most `window` requests in the engine, each under one name or several.

        Args:
            requests: read only as fast as they are served.
            prepare: what vLLM is given for a request, or a result that says why it cannot be served.
            result: what a request's outputs come to.
            kind: the class of results, for what is wrong with a request.
        """
        source, exhausted = iter(requests), False
        waiting: dict[str, dict[str, Any]] = {}
        owners: dict[str, str] = {}
        engine = self.llm.llm_engine
        try:
            while True:
                while not exhausted and len(waiting) < self.config.window:
                    request = next(source, None)
                    if request is None:
                        exhausted = True
                    elif not isinstance(names := self._submit(request, prepare, kind), list):
                        yield names
                    else:
                        waiting[request.key] = dict.fromkeys(names)
                        owners |= dict.fromkeys(names, request.key)
                if not waiting:
                    return
                for output in self._step(engine):
                    if output.finished:
                        key = owners.pop(output.request_id)
                        waiting[key][output.request_id] = output
                        if None not in waiting[key].values():
                            yield result(key, list(waiting.pop(key).values()))
        finally:
            if owners:
                engine.abort_request(list(owners))

    def _submit(
        self, request: Any, prepare: Callable[[Any], Prepared | AnyResult], kind: Callable[..., AnyResult]
    ) -> list[str] | AnyResult:
        """Give vLLM a request; the names it has there, or a result that says what is wrong with it."""
        from vllm.v1.engine.exceptions import EngineDeadError

        given: list[str] = []
        try:
            prepared = prepare(request)
            if not isinstance(prepared, tuple):
                return prepared
            ids, params_by_name = prepared
            for name, params in params_by_name.items():
                prompt = {"prompt_token_ids": ids}
                self.llm.llm_engine.add_request(name, prompt, params, lora_request=self._adapter)
                given.append(name)
        except EngineDeadError as error:
            raise self._died(error) from error
        except Exception as error:  # one does not end the others; where all fail, the stage's limit of failures does
            if given:
                self.llm.llm_engine.abort_request(given)
            return kind(key=request.key, error=f"{type(error).__name__}: {error}")
        return given

    def _step(self, engine: Any) -> list[Any]:
        try:
            return list(engine.step())
        except Exception as error:
            raise self._died(error) from error

    def _died(self, error: Exception) -> EngineError:
        what = f"vLLM died with model {self.model.name}: {_in_words(error)}{engine_log.where_to_look(error)}"
        return EngineError(f"{what}. Run the same command again")


def check_arguments(args: Mapping[str, Any]) -> None:
    """Say which of `engine.args` vLLM does not know, or is set in another place.

    Raises:
        ValueError: for the first such field.
    """
    fields = vllm_environment.engine_arguments()
    for name in args:
        if name in SETTINGS:
            raise ValueError(f"args has {name}, which is set by {SETTINGS[name]}")
        if fields and name not in fields:
            raise ValueError(f"args has {name}, which is no field of vLLM's EngineArgs{nearest(name, fields)}")
        if fields and not _is_of(args[name], fields[name]):
            raise ValueError(f"args has {name}={args[name]!r}, which vLLM takes as {fields[name]}")


def _is_of(value: Any, annotation: str) -> bool:
    """Whether a value may be of a type as it is written; of one that names types of vLLM's own any value may be."""
    parts, kinds = [ast.parse(annotation, mode="eval").body], set[str]()
    while parts:
        part = parts.pop()
        if isinstance(part, ast.BinOp):
            parts += [part.left, part.right]
        else:
            kinds.add(ast.unparse(part.value if isinstance(part, ast.Subscript) else part))
    if value is None or not kinds <= _PLAIN.keys():
        return True
    types = tuple(one for kind in kinds for one in _PLAIN[kind])
    return isinstance(value, types) and (not isinstance(value, bool) or bool in types)


def start(config: VLLMConfig, model: ModelConfig, *, scores: bool = False) -> Any:
    """A vLLM on `model`, in this process, to generate or to score.

    Raises:
        EngineError: where it is not installed, or cannot start.
    """
    config.prepare()
    try:
        from vllm import LLM
    except ImportError as error:
        raise EngineError(
            f"vLLM is not installed ({error}). Install the extra 'cpu' or 'cuda', or use engine=hf"
        ) from error
    engine_log.begin(f"vLLM with model {model.name} ({model.path})")
    try:
        return LLM(**arguments(config, model, scores=scores))
    except SqError:
        raise
    except Exception as error:  # vLLM checks by assertions, and its readers of weights have errors of their own
        what = f"vLLM cannot start with model {model.name} ({model.path}): {_in_words(error)}"
        raise EngineError(f"{what}{engine_log.where_to_look(error)}") from error


def _in_words(error: Exception) -> str:
    """What an error says, with its class where that is no part of a sentence."""
    return str(error) if str(error) and isinstance(error, ValueError | RuntimeError | OSError) else repr(error)


def arguments(config: VLLMConfig, model: ModelConfig, *, scores: bool = False) -> dict[str, Any]:
    """What vLLM is started with."""
    on_cpu = vllm_environment.on_cpu()
    return {
        "model": locate(model),
        "tokenizer": model.tokenizer,
        "revision": model.revision,
        "trust_remote_code": model.trust_remote_code,
        "runner": "pooling" if scores else "auto",
        "dtype": config.resolved(model).dtype,
        "max_model_len": config.max_model_len or model.max_length,
        "max_num_seqs": config.max_num_seqs,
        "tensor_parallel_size": config.tensor_parallel,
        "gpu_memory_utilization": config.gpu_memory,
        "enforce_eager": on_cpu if config.eager is None else config.eager,
        "quantization": config.quantization,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        **(_for_cpu(scores) if on_cpu else {}),
        **_attention(config.attention),
        **_lora_arguments(config.lora),
        **config.args,
    }


def _lora_arguments(lora: str | None) -> dict[str, Any]:
    """What makes vLLM ready for the adapter; nothing, where there is none."""
    if lora is None:
        return {}
    rank = adapter(lora)[0]
    return {"enable_lora": True, "max_loras": 1, "max_lora_rank": next((r for r in RANKS if r >= rank), rank)}


def adapter(directory: str) -> tuple[int, str]:
    """Rank and digest of a LoRA adapter that peft has saved."""
    files = [Path(directory) / name for name in ("adapter_config.json", "adapter_model.safetensors")]
    if missing := [file.name for file in files if not file.is_file()]:
        raise EngineError(
            f"engine.lora={directory!r} has no {' and no '.join(missing)}: give the directory of a LoRA adapter that "
            "peft has saved, with its weights as safetensors"
        )
    digest = hashlib.blake2b(b"".join(file.read_bytes() for file in files), digest_size=4).hexdigest()
    return int(json.loads(files[0].read_text())["r"]), digest


def _for_cpu(scores: bool) -> dict[str, Any]:
    """What a CPU needs of vLLM: our sampling, too, which is a logits processor that vLLM on a GPU would refuse.

    Prompts in one piece: vLLM rewinds the generator of a seeded request whose prompt it cuts into chunks, which torch's
    CPU generator cannot do, and the whole engine dies of it. Cache blocks of 32 tokens, its smallest there in place of
    128: only whole blocks of a prompt are shared between its completions, and most questions are shorter than 128.
    """
    settings: dict[str, Any] = {"enable_chunked_prefill": False, "block_size": 32}
    if not scores:
        from sq.engine.vllm_sampling import DrawProcessor

        settings["logits_processors"] = [DrawProcessor]
    return settings


def _attention(name: str | None) -> dict[str, Any]:
    """What tells vLLM the attention backend; nothing, where the choice is its own."""
    if name is None:
        return {}
    from vllm.v1.attention.backends.registry import AttentionBackendEnum

    backends = sorted(backend.name for backend in AttentionBackendEnum)
    if name.upper() not in backends:
        raise EngineError(f"engine.attention={name!r}{nearest(name.upper(), backends)} vLLM has {', '.join(backends)}")
    return {"attention_backend": AttentionBackendEnum[name.upper()]}
