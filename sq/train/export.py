"""From trained weights to one Hugging Face directory, whatever they were trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sq.core.chat import ChatFormat
from sq.models.adapters import merged
from sq.models.export import export
from sq.models.load import ModelConfig, load_model
from sq.models.regressor import export_regressor
from sq.train.config import LoraConfig
from sq.train.model import adapters
from sq.train.stage import TrainableModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def write_model(
    directory: Path, trained: TrainableModel, state: Iterable[tuple[str, Tensor]], *, config: ModelConfig,
    lora: LoraConfig, head_note: str, tokenizer: PreTrainedTokenizerFast, chat: ChatFormat, origin: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write the module's `state`, in the number format that its weights came in; `origin` goes beside it as `sq.json`.

    Adapters are merged into a fresh copy of what they were trained beside. A head makes a sequence classifier of the
    model, with its bias in the file `head_note`.
    """
    model, stored = trained.model, trained.stored
    head: dict[str, Tensor] = {}
    weights: Iterable[tuple[str, Tensor]] = _of_model(state, head)
    if lora.rank:
        model = merged(load_model(config, dtype="float32"), dict(weights), adapters(lora))
        weights = model.state_dict().items()
    origin = {**origin, "base": config.path, "chat": chat.record()}
    if head_note:
        export_regressor(model, weights, head, tokenizer, chat, directory, dtype=stored, origin=origin, note=head_note)
    else:
        export(model, tokenizer, directory, dtype=str(stored).removeprefix("torch."), origin=origin, state=weights)


def _of_model(state: Iterable[tuple[str, Tensor]], head: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The model's own of the module's tensors, by their names in it; those of the head go to `head` on the way."""
    for name, tensor in state:
        part, _, own = name.partition(".")
        if part == "model":
            yield own, tensor
        elif part == "head":
            head[own] = tensor
