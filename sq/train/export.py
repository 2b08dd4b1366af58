"""From trained weights to one Hugging Face directory, whatever they were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sq.core.chat import ChatFormat
from sq.models.adapters import merged
from sq.models.export import export
from sq.models.load import ModelConfig, load_model
from sq.models.regressor import export_regressor
from sq.train.config import LoraConfig
from sq.train.model import TrainableModel, adapters

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def write_model(
    directory: Path, trained: TrainableModel, state: Mapping[str, Tensor], *, config: ModelConfig, lora: LoraConfig,
    head_note: str, tokenizer: PreTrainedTokenizerFast, chat: ChatFormat, origin: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write the module's `state`, in the number format that its weights came in; `origin` goes beside it as `sq.json`.

    Adapters are merged into a fresh copy of what they were trained beside. A head makes a sequence classifier of the
    model, with its bias in the file `head_note`.
    """
    model, weights, stored = trained.model, _part(state, "model."), trained.stored
    if lora.rank:
        model = merged(load_model(config, dtype="float32"), weights, adapters(lora))
        weights = model.state_dict()
    origin = {**origin, "base": config.path, "chat": chat.record()}
    if head_note:
        head = _part(state, "head.")
        export_regressor(
            model, weights.items(), head, tokenizer, chat, directory, dtype=stored, origin=origin, note=head_note
        )
    else:
        export(
            model, tokenizer, directory, dtype=str(stored).removeprefix("torch."), origin=origin, state=weights.items()
        )


def _part(state: Mapping[str, Tensor], prefix: str) -> Mapping[str, Tensor]:
    """The tensors of a part of the module, by their names in it."""
    return {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
