"""What is kept beside a run, tokenised rows and QPO's reference log-probabilities, and what each is keyed by.

A key has every setting of the job but those listed here, so that a new setting cannot be forgotten: it changes both
keys until it is listed with the reason why it does not matter. A path is no setting: the content there counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sq.core.files import digest_of

if TYPE_CHECKING:
    from sq.data.module import PackPlan
    from sq.models.attention import Attention

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
