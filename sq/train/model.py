"""The model as it is trained: loaded, cast, with adapters, with its attention, its parity checked."""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sq.core.errors import ConfigError
from sq.core.files import digest_of
from sq.data.collate import collate
from sq.data.tokens import TokenRows
from sq.models.adapters import Adapters, add_adapters, keep_layout, quantized_arguments
from sq.models.attention import Attention, Kernel, choose_attention
from sq.models.fetch import default_cache
from sq.models.fused import HeadChoice, HeadKernel, choose_head
from sq.models.load import NEW_TINY, ModelConfig, empty_model, load_model, stored_dtype
from sq.models.pack import __file__ as pack_code
from sq.models.parity import check_parity
from sq.models.tiny import make_model
from sq.train.config import LoraConfig, Precision, TrainerConfig
from sq.train.hardware import device_of, is_cross_entropy
from sq.train.launch import rank
from sq.train.optim import to_bf16
from sq.train.rows import TrainingRows
from sq.train.shard import decoder_layers
from sq.train.stage import StageConfig, StageLoss, TrainableModel

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

log = logging.getLogger(__name__)
PARITY_ROWS = 6
COMPUTED_BY = (
    "torch", "transformers", "triton", "peft", "bitsandbytes", "flash-attn", "flash-attn-3", "flash-attn-4", "kernels",
)  # fmt: skip
"""Packages whose next version may compute another thing."""


def trainable_model(
    config: ModelConfig, trainer: TrainerConfig, stage: StageConfig, *,
    tokenizer: PreTrainedTokenizerFast, rows: TrainingRows, seed: int, weights: str,
) -> TrainableModel:  # fmt: skip
    """The model as `stage` trains it on `rows`. With FSDP the first process alone has weights: see `shard`."""
    lora = trainer.lora
    if config.path == NEW_TINY:
        model: PreTrainedModel = make_model(tokenizer, seed)
        stored = model.dtype
    elif lora.quantize:
        exact = trainer.precision is Precision.FP32
        model = load_model(config, **quantized_arguments(torch.float32 if exact else torch.bfloat16))
        keep_layout(model)
        stored = stored_dtype(config)
    else:
        model = empty_model(config) if trainer.strategy == "fsdp" and rank() else load_model(config)
        stored = model.dtype
    return prepared(config.name, model, stored, trainer, stage, rows, weights)


def prepared(
    name: str, model: PreTrainedModel, stored: torch.dtype, trainer: TrainerConfig, stage: StageConfig,
    rows: TrainingRows, weights: str = "",
) -> TrainableModel:  # fmt: skip
    """`model`, whose weights came as `stored`, cast, with adapters, on its device, with its attention and head.

    With FSDP it stays where it is and as it is: `shard` makes fp32 shards of it.
    """
    check_context(model, rows.longest)
    half, device, sharded = trainer.precision is not Precision.FP32, device_of(trainer), trainer.strategy == "fsdp"
    if not trainer.lora.quantize and not sharded:
        if trainer.precision is Precision.BF16:
            to_bf16(model, masters=not trainer.lora.rank)
        else:
            model = model.float()
    if trainer.lora.rank:
        add_adapters(model, adapters(trainer.lora))
    if trainer.gradient_checkpointing:
        checkpoint_layers(model, trainer.checkpointed_layers)
    model = model.train() if sharded else model.train().to(device)
    attention = set_up_attention(
        model, trainer, share_prefix=stage.share_prefix, half=half, saved=rows.saved_by_sharing()
    )
    prefix = rows.common_prefix() if attention.shares_prefix else 0
    head = HeadChoice(kernel=HeadKernel.CHUNKED, reason="the stage's loss needs it")
    if is_cross_entropy(stage):
        head = choose_head(model, HeadKernel(trainer.head), half=half, device=device)
    if trainer.parity_check is not False and not (sharded and rank()):  # the others wait for the first one's weights
        again, place = trainer.parity_check is True, model.device
        check_parity_gate(model.to(device), rows.train, attention, prefix, weights=weights, again=again)
        model = model.to(place)
    return TrainableModel(
        name=name, model=model, stored=stored, half=half, attention=attention, prefix=prefix, head=head, rows=rows.train
    )


def adapters(lora: LoraConfig) -> Adapters:
    """The adapters that the settings describe."""
    return Adapters(rank=lora.rank, alpha=lora.alpha, dropout=lora.dropout, targets=lora.targets)


def set_up_attention(
    model: PreTrainedModel, trainer: TrainerConfig, *, share_prefix: bool, half: bool, saved: float
) -> Attention:
    """Choose the attention over packs.

    Raises:
        ConfigError: rows would run one by one, and in shards: a process with fewer rows would keep the others waiting.
    """
    attention = choose_attention(
        model, Kernel(trainer.attention), share_prefix=share_prefix, half=half, saved=saved, device=device_of(trainer)
    )
    if not attention.packs and trainer.strategy in ("fsdp", "deepspeed") and trainer.world > 1:
        raise ConfigError(
            f"trainer.strategy={trainer.strategy} needs packs, and here rows run one by one ({attention.reason}): "
            "processes with different numbers of rows would wait for each other for ever; use trainer.strategy=ddp"
        )
    return attention


def fit_to_packs(model: PreTrainedModel, loss: StageLoss, trainer: TrainerConfig, tokens: int) -> None:
    """Pad packs of at most `tokens` to one size where the kernel takes them whole, and compile for that."""
    loss.attention = loss.attention.padding_to(tokens)
    one_size = bool(loss.attention.pad_to)
    if trainer.compile or (trainer.compile is None and one_size):
        compile_layers(model, dynamic=None if one_size else True)


def checkpoint_layers(model: PreTrainedModel, share: float) -> None:
    """Have the backward pass compute `share` of the layers again, evenly spread, rather than keep all they computed."""
    layers = decoder_layers(model)
    if int(len(layers) * share) < 1:
        raise ConfigError(
            f"trainer.checkpointed_layers={share:g} is less than one of the model's {len(layers)} layers; give at "
            f"least {math.ceil(1000 / len(layers)) / 1000:g}, or trainer.gradient_checkpointing=false"
        )
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for i, layer in enumerate(layers):
        layer.gradient_checkpointing = int((i + 1) * share) > int(i * share)  # type: ignore[assignment]


def compile_layers(model: PreTrainedModel, *, dynamic: bool | None, backend: str = "inductor") -> None:
    """Have torch.compile compile the layers that repeat: one graph serves all of a kind, with checkpointing too."""
    for layer in decoder_layers(model):
        layer.compile(dynamic=dynamic, backend=backend)


def check_context(model: PreTrainedModel, longest: int) -> None:
    """Refuse rows beyond the positions that the model has."""
    positions = int(model.config.get_text_config().to_dict().get("max_position_embeddings") or 0)
    if positions and longest > positions:
        raise ConfigError(
            f"the longest row has {longest} tokens, but the model's context is {positions}; set "
            f"data.max_tokens={positions} (longer rows are rejected and counted, or cut with data.too_long=truncate)"
        )


def check_parity_gate(
    model: PreTrainedModel, rows: TokenRows, attention: Attention, prefix: int, *, weights: str, again: bool
) -> None:
    """Refuse to train where packed and unpacked training are not the same on this model with these `weights`.

    That they are is kept beside what `sq model` fetches, and without `again` not checked a second time.
    """
    if not attention.packs:
        log.info("parity of packed and unpacked training: rows run one by one, there is nothing to compare")
        return
    chosen = [row for item in _spread(rows.lengths) for row in rows.rows(item)]
    kept = _parity_passed(model, attention, prefix > 0, weights)
    if len(chosen) < 2 or (kept.exists() and not again):
        return
    report = check_parity(model, chosen, attention, collate, prefix=prefix)
    report.require()
    log.info(report.describe())
    with suppress(OSError):  # where nothing can be kept it is checked each time
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(report.describe() + "\n")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _spread(lengths: np.ndarray) -> list[int]:
    """A few items from the shortest to the longest."""
    order = lengths.argsort(kind="stable")
    return list(dict.fromkeys(int(order[round(k * (len(order) - 1) / (PARITY_ROWS - 1))]) for k in range(PARITY_ROWS)))


def _parity_passed(model: PreTrainedModel, attention: Attention, prefix: bool, weights: str) -> Path:
    """The file that says so of this model, what is trained of it, its kernel and versions."""
    device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else "cpu"
    how = (attention.kernel.value, attention.flash, str(prefix), device, model.config.to_json_string())
    parameters = [f"{name} {p.dtype} {[*p.shape]} {p.requires_grad}" for name, p in model.named_parameters()]
    ours = [file.read_bytes() for file in sorted(Path(pack_code).parent.glob("*.py"))]
    digest = digest_of(type(model).__name__, weights, *how, *parameters, *map(_version, COMPUTED_BY), *ours)
    return default_cache() / "parity" / f"{digest}.txt"
