"""What vLLM would make of our arguments on a GPU: `python vllm_as_on_cuda.py "MODEL [setting=value ...]" ...`, as JSON.

It runs on a CPU: the platform is vLLM's own for CUDA with what an H200 has, and everything goes through
vLLM's code up to where weights would be loaded: LLM, EngineArgs, the whole configuration, the loader of logits
processors of its Model Runner V2, and the checks of requests.
"""

import importlib
import json
import os
import sys
import types
from dataclasses import fields

os.environ.pop("VLLM_USE_V2_MODEL_RUNNER", None)  # vLLM's own choice
sys.modules.setdefault("vllm._C_stable_libtorch", types.ModuleType("vllm._C_stable_libtorch"))  # kernels for CUDA

from omegaconf import OmegaConf  # noqa: E402

from sq.core.config import build  # noqa: E402
from sq.engine import vllm_environment  # noqa: E402
from sq.engine.vllm import VLLMConfig  # noqa: E402
from sq.engine.vllm_start import SETTINGS, SPEED_ONLY, start  # noqa: E402
from sq.models.load import ModelConfig, is_scorer  # noqa: E402


def be_on_cuda():
    vllm_environment.on_cpu = lambda: False
    importlib.import_module("vllm.triton_utils").HAS_TRITON = True  # as where there is a GPU; nothing here calls it
    platforms = importlib.import_module("vllm.platforms")
    cuda = importlib.import_module("vllm.platforms.cuda").CudaPlatformBase
    capability = importlib.import_module("vllm.platforms.interface").DeviceCapability(9, 0)

    class H200(cuda):
        get_device_capability = classmethod(lambda cls, device_id=0: capability)
        get_device_name = classmethod(lambda cls, device_id=0: "NVIDIA H200")
        get_device_total_memory = classmethod(lambda cls, device_id=0: 141 << 30)
        is_fully_connected = classmethod(lambda cls, ids: True)
        device_count = classmethod(lambda cls: 8)
        num_compute_units = classmethod(lambda cls, device_id=0: 132)

    platforms._current_platform = H200()
    registry = importlib.import_module("vllm.model_executor.models.registry")
    registry._LazyRegisteredModel.inspect_model_cls = lambda self: model_info(registry._ModelInfo, self.class_name)


def model_info(kind, name):
    """What vLLM finds out of a language model by importing it with kernels that only a GPU could run."""
    about = {"architecture": name, "is_text_generation_model": True, "supports_pp": True, "attn_type": "decoder"}
    about |= {"default_seq_pooling_type": "LAST", "default_tok_pooling_type": "ALL", "score_type": "bi-encoder"}
    return kind(**{field.name: about.get(field.name, False) for field in fields(kind)})


def engine_arguments(config, model):
    """The EngineArgs that vLLM's LLM makes of what we give it."""
    engine = importlib.import_module("vllm.v1.engine.llm_engine").LLMEngine
    given = []

    def note(engine_args, **more):
        given.append(engine_args)
        raise RuntimeError("no further")

    engine.from_engine_args = note
    try:
        start(config, model, scores=is_scorer(model))
    except Exception as error:
        if not given:
            raise
        assert "no further" in str(error)
    return given[0]


def configured(path, *settings):
    """The configuration that vLLM makes of a model and our settings."""
    config = build(OmegaConf.from_dotlist(list(settings)), VLLMConfig)
    config = engine_arguments(config, ModelConfig(name="m", path=path)).create_engine_config()
    importlib.import_module("vllm.v1.engine.input_processor").InputProcessor(config)
    loader = importlib.import_module("vllm.v1.worker.gpu.sample.logits_processor")
    names = ("device", "max_num_reqs", "vocab_size", "all_token_ids", "prompt_len", "prefill_len", "total_len")
    state = types.SimpleNamespace(**dict.fromkeys(names))
    pooling = config.model_config.runner_type == "pooling"
    processors = loader.build_custom_logits_processors(
        config, state, pooling, config.model_config.logits_processors or ()
    )
    known = {field.name for field in fields(importlib.import_module("vllm.engine.arg_utils").EngineArgs)}
    return {
        "version": importlib.import_module("vllm").__version__,
        "unknown": sorted((SETTINGS.keys() | SPEED_ONLY) - known),
        "v2": config.use_v2_model_runner,
        "processors": len(processors),
        "eager": config.model_config.enforce_eager,
        "graphs": config.compilation_config.cudagraph_mode.name,
        "chunked_prefill": config.scheduler_config.enable_chunked_prefill,
        "dtype": str(config.model_config.dtype),
        "runner": config.model_config.runner_type,
        "max_num_seqs": config.scheduler_config.max_num_seqs,
    }


if __name__ == "__main__":
    be_on_cuda()
    print(json.dumps([configured(*words.split()) for words in sys.argv[1:]]))
