"""What decides a training's weights and its caches, and `train.json`, the record of a run in its directory.

The record says whether the run is done, the same one to be continued, or another one that must not be mixed with it. A
key of a cache (tokenised rows, QPO's reference log-probabilities) has every setting of the job but those listed here,
so that a new setting cannot be forgotten: it changes both keys until it is listed with the reason why it does not
matter. A path is no setting: the content there counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sq.core.errors import ConfigError
from sq.core.files import digest_of, write_files
from sq.train.config import TrainerConfig

if TYPE_CHECKING:
    from sq.data.module import PackPlan
    from sq.models.attention import Attention

NAME = "train.json"
_IGNORED = ("output_dir", "tracking.", "trainer.", "domain.benchmarks", "domain.subject")
_DECIDING = ("trainer.precision", "trainer.lora.", "trainer.export", "trainer.attention")
_NEITHER = {
    "data.input": "a path: the source's digest is in the key",
    "model.name": "a label",
    "model.path": "a path: the chat format and the weights are in the keys",
    "model.tokenizer": "a path: the chat format, its vocabulary with it, is in the key",
    "model.revision": "as the path",
    **dict.fromkeys(
        ("stage.lr", "stage.head_lr", "stage.optimizer", "stage.schedule", "stage.warmup", "stage.warmup_steps",
         "stage.weight_decay", "stage.beta2", "stage.grad_clip", "stage.epochs", "stage.max_steps"),
        "of the optimiser, which comes later",
    ),
    **dict.fromkeys(
        ("stage.beta", "stage.loss", "stage.length_normalised", "stage.nll", "stage.label_smoothing"),
        "of the loss, which takes log-probabilities as they are",
    ),
    "stage.pack_tokens": "the limit of a row and the packs are in the keys",
    "stage.batch_packs": "how many packs make a step",
    "stage.batch_rows": "as pack_tokens",
    "stage.share_prefix": "the packs, and how attention runs over them, are in the key",
    "model.max_length": "the limit of a row is in the key",
    "data.max_tokens": "the limit of a row is in the key",
    "trainer.devices": "the packs are in the key",
    "trainer.nodes": "the packs are in the key",
    "trainer.threads": "changes rounding at most, as kernels that do not repeat themselves do",
    "trainer.accelerator": "the device is in the key",
    "trainer.attention": "the attention that was chosen is in the key",
    "trainer.head": "a kernel of cross-entropy; log-probabilities are ours always",
    "trainer.parity_check": "changes nothing",
    "trainer.gradient_checkpointing": "computes the same again",
    "trainer.checkpointed_layers": "as gradient_checkpointing",
    "trainer.reduce_once": "of gradients",
    **dict.fromkeys(
        ("trainer.lora.rank", "trainer.lora.alpha", "trainer.lora.dropout", "trainer.lora.targets"),
        "adapters begin as zero, and QPO refuses dropout",
    ),
    **dict.fromkeys(
        ("trainer.checkpoint_every", "trainer.checkpoint_minutes", "trainer.keep_checkpoints", "trainer.export",
         "trainer.log_every"),
        "what is logged and kept of the training",
    ),
    "trainer.cache": "where the caches are",
}  # fmt: skip
IGNORED_BY_REFERENCES = _NEITHER
"""Settings that reference log-probabilities do not depend on, and why."""
IGNORED_BY_TOKENS = _NEITHER | {
    "model.dtype": "of the weights",
    "model.trust_remote_code": "what the tokenizer makes of text is in the chat format",
    "model.positions": "the limit of a row is in the key",
    "trainer.precision": "of the arithmetic",
    "trainer.compile": "of the arithmetic",
    "trainer.strategy": "of the arithmetic",
    "trainer.lora.quantize": "of the arithmetic",
}
"""Settings that tokenised rows do not depend on, and why."""


def identity(settings: Mapping[str, Any], *, data: str, model: str) -> dict[str, str]:
    """What decides the weights: the job's settings, but neither where they go nor on which hardware and how it is
    watched. Of data and model the content counts, not where it is."""
    places = ("data.input", "model.path", "model.name")
    deciding = {k: v for k, v in settings.items() if not k.startswith(_IGNORED) or k.startswith(_DECIDING)}
    mine = {k: str(v) for k, v in deciding.items() if k not in places}
    return {**mine, "data (content)": data, "model (weights)": model}


def references_key(
    settings: Mapping[str, Any], *, tokens: str, weights: str, plan: PackPlan, attention: Attention, device: str
) -> str:
    """Of reference log-probabilities: weights, rows, how they are packed, and the arithmetic."""
    packs = json.dumps([plan.packing.packs, plan.prefix])
    return digest_of(tokens, weights, packs, str(attention), device, deciding(settings, IGNORED_BY_REFERENCES))


def deciding(settings: Mapping[str, Any], ignored: Mapping[str, str]) -> str:
    """The settings of a job that something depends on, as text."""
    groups = ("stage.", "model.", "domain.", "data.", "trainer.", "seed")
    kept = {k: str(v) for k, v in settings.items() if k.startswith(groups) and k not in ignored}
    return json.dumps(kept, sort_keys=True)


def read_record(output: Path, mine: dict[str, str]) -> dict[str, Any] | None:
    """The record of an earlier run of this very configuration, or None.

    Raises:
        ConfigError: where another run is in the directory, naming each setting that differs.
    """
    path = output / NAME
    if not path.exists():
        return None
    try:
        earlier: dict[str, Any] = json.loads(path.read_text())
        config = earlier["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); delete {output}, or give another output_dir=") from error
    if "figures" not in earlier and config != mine and not (output / "checkpoints").is_dir():
        return None  # it came to nothing, by a mistake perhaps, and does not stand in the way of the corrected command
    keys = sorted(k for k in mine | config if mine.get(k) != config.get(k))
    if keys:
        differ = ", ".join(f"{k} ({config.get(k)} there, {mine.get(k)} now)" for k in keys)
        raise ConfigError(
            f"{output} holds a run with another configuration: {differ}. Give another output_dir=, or delete it"
        )
    return earlier


def plan_to_follow(record: Mapping[str, Any], trainer: TrainerConfig, output: Path) -> dict[str, int] | None:
    """The plan that the checkpoints in `output` belong to, if there are any.

    Raises:
        ConfigError: where it cannot be followed by as many processes, or the checkpoints read by the strategy.
    """
    from sq.train.checkpoints import last_checkpoint, readers

    last = last_checkpoint(output / "checkpoints")
    if last is None:
        return None
    plan: dict[str, int] | None = record.get("plan")
    stopped = f"{output} was stopped in the midst of training"
    if plan is None:
        raise ConfigError(f"{stopped} by a version that kept no plan of its steps; start again in another output_dir=")
    packs, nodes, world = plan["packs_per_step"], trainer.nodes, trainer.world
    able = [n for n in range(1, packs + 1) if packs % n == 0]
    why = f"its steps of {packs} packs cannot be shared evenly by {world} processes"
    if trainer.strategy == "deepspeed":
        able, why = [plan["processes"]], f"DeepSpeed's checkpoints cannot be read by {world} processes"
    if world not in able:
        key = f"trainer.devices={trainer.devices}" + (f" with trainer.nodes={nodes}" if nodes > 1 else "")
        devices = " or ".join(str(n // nodes) for n in able if n % nodes == 0)
        raise ConfigError(
            f"{key}: {stopped}, which was planned for {plan['processes']}, and {why}. Set trainer.devices to "
            f"{devices or 'another number, and trainer.nodes'}, or start again in another output_dir="
        )
    if trainer.strategy not in (strategies := readers(last)):
        form = "whole" if last.is_file() else "in shards"
        raise ConfigError(
            f"trainer.strategy={trainer.strategy}: {last}, of a stopped run, is {form}; "
            f"go on with trainer.strategy={' or '.join(strategies)}, or start again in another output_dir="
        )
    return plan


def update_record(output: Path, **entries: Any) -> None:
    """Put more into the record that is there."""
    write_record(output, {**json.loads((output / NAME).read_text()), **entries})


def write_record(output: Path, record: dict[str, Any]) -> None:
    """Put the record in place, whole."""
    write_files(output, {NAME: json.dumps(record, indent=1, sort_keys=True).encode()})
