"""What vLLM would make of our arguments on a GPU: `python vllm_as_on_cuda.py MODEL [setting=value ...]`, as JSON.

It runs on a CPU: the platform is vLLM's own for CUDA with what an H200 says of itself, and everything goes through
vLLM's code up to where weights would be loaded: LLM, EngineArgs, the whole configuration, the loader of logits
processors of its Model Runner V2, and the checks of requests.
"""

import importlib
import json
import os
import sys
import types

os.environ.pop("VLLM_USE_V2_MODEL_RUNNER", None)  # vLLM's own choice
sys.modules.setdefault("vllm._C_stable_libtorch", types.ModuleType("vllm._C_stable_libtorch"))  # kernels for CUDA

from omegaconf import OmegaConf  # noqa: E402

from sq.core.config import build  # noqa: E402
from sq.engine import vllm_environment  # noqa: E402
from sq.engine.vllm import VLLMConfig  # noqa: E402
from sq.engine.vllm_start import start  # noqa: E402
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


def main(path, *settings):
    be_on_cuda()
    config = build(OmegaConf.from_dotlist(list(settings)), VLLMConfig)
    made = engine_arguments(config, ModelConfig(name="m", path=path)).create_engine_config()
    importlib.import_module("vllm.v1.engine.input_processor").InputProcessor(made)
    loader = importlib.import_module("vllm.v1.worker.gpu.sample.logits_processor")
    names = ("device", "max_num_reqs", "vocab_size", "all_token_ids", "prompt_len", "prefill_len", "total_len")
    state = types.SimpleNamespace(**dict.fromkeys(names))
    pooling = made.model_config.runner_type == "pooling"
    processors = loader.build_custom_logits_processors(made, state, pooling, made.model_config.logits_processors or ())
    said = {
        "v2": made.use_v2_model_runner,
        "processors": len(processors),
        "eager": made.model_config.enforce_eager,
        "graphs": made.compilation_config.cudagraph_mode.name,
        "chunked_prefill": made.scheduler_config.enable_chunked_prefill,
        "dtype": str(made.model_config.dtype),
        "runner": made.model_config.runner_type,
        "max_num_seqs": made.scheduler_config.max_num_seqs,
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
