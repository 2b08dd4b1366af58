"""LoRA and QLoRA: small trained matrices beside frozen weights, put into the model in place and merged on export.

peft and bitsandbytes are optional; what is missing is told with the command that installs it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sq.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Adapters:
    """What is added to which layers; see `sq.train.config.LoraConfig`."""

    rank: int
    alpha: int
    dropout: float
    targets: Sequence[str]


def add_adapters(model: PreTrainedModel, adapters: Adapters) -> None:
    """Freeze `model` and put adapters into it, in place: its class and its own weights' values stay."""
    _lora_model()(model, {"default": _config(model, adapters)}, "default")
    for parameter in (p for p in model.parameters() if p.requires_grad):
        parameter.data = parameter.data.float()


def merged(model: PreTrainedModel, state: Mapping[str, Tensor], adapters: Adapters) -> PreTrainedModel:
    """`model` (fresh, in full precision) with the adapters of `state` added to its weights."""
    lora = _lora_model()(model, {"default": _config(model, adapters)}, "default")
    held = dict(model.named_parameters())
    found = {name: tensor for name, tensor in state.items() if "lora_" in name}
    if missing := [name for name in held if "lora_" in name and name not in found]:
        raise ConfigError(f"the trained adapters have no {missing[0]}: they are of another model or other targets")
    for name, tensor in found.items():
        held[name].data.copy_(tensor)
    return lora.merge_and_unload()


def quantized_arguments(dtype: torch.dtype) -> dict[str, Any]:
    """What `load_model` needs to hold weights in 4 bit (NF4), computing in `dtype`."""
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            "trainer.lora.quantize=true needs bitsandbytes: pip install 'bitsandbytes>=0.50', or set it to false"
        )
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config, "dtype": str(dtype).removeprefix("torch.")}


def keep_layout(model: PreTrainedModel) -> None:
    """Have bitsandbytes keep 4-bit weights as they are. On a CPU with avx512_bf16 it repacks them in the first
    evaluation, for inference alone: that fails for layers of few rows, and training goes on after it."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def size(parameter: nn.Parameter) -> int:
    """How many numbers a parameter holds: one in 4 bit is stored two to a byte, and under ZeRO-3 none is here."""
    state = getattr(parameter, "quant_state", None)
    return int(getattr(parameter, "ds_numel", parameter.numel())) if state is None else int(state.shape.numel())


def _config(model: PreTrainedModel, adapters: Adapters) -> Any:
    from peft import LoraConfig

    linear = {name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    head = {name.rpartition(".")[2] for name, m in model.named_modules() if m is model.get_output_embeddings()}
    targets = list(adapters.targets) or sorted(linear - head)
    if unknown := set(targets) - linear:
        known = ", ".join(sorted(linear - head))
        raise ConfigError(
            f"trainer.lora.targets has {', '.join(sorted(unknown))}, but the model's linear layers are {known}"
        )
    outputs = model.get_output_embeddings()
    if head & set(targets) and outputs.weight is model.get_input_embeddings().weight:
        raise ConfigError(
            f"trainer.lora.targets has {', '.join(head)}, whose weights are the embedding's too in "
            f"{type(model).__name__}: on export an adapter would be added to both; leave it out"
        )
    return LoraConfig(r=adapters.rank, lora_alpha=adapters.alpha, lora_dropout=adapters.dropout, target_modules=targets)


def _lora_model() -> Any:
    try:
        from peft.tuners.lora import LoraModel
    except ImportError as error:
        raise ConfigError(
            f"trainer.lora.rank needs peft ({error}): pip install 'peft>=0.18', or set "
            "trainer.lora.rank=0 for full fine-tuning"
        ) from error
    return LoraModel
