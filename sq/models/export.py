"""Models written in Hugging Face form, whole or not at all, a file of weights at a time.

Weights come as a stream of names and tensors, so that a model in shards over several processes is nowhere held whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

FILE_BYTES = 5 << 30
"""Weights in one file, and in memory at a time."""
NAME = "model{}.safetensors"


def export(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    directory: Path,
    *,
    dtype: str | None = None,
    origin: dict[str, Any],
    state: Iterable[tuple[str, Tensor]] | None = None,
) -> Path:
    """Write model and tokenizer to `directory`.

    `origin` (parents, stage, run) goes beside the weights as `sq.json`, so that a row's model can be traced. `state`
    are the weights where the model does not hold them itself.
    """
    target = getattr(torch, dtype) if dtype else model.dtype
    held = model.state_dict().items() if state is None else state
    tied = model.all_tied_weights_keys  # converted, they would no longer share storage, and be written twice
    weights = ((name, tensor) for name, tensor in held if name not in tied)
    with replaced(directory, origin) as staging:
        write_weights(_as_stored(model, weights), staging, target)
        model.config.architectures = [type(model).__name__]
        model.config.dtype = target
        model.config.save_pretrained(staging)
        if model.can_generate():
            model.generation_config.save_pretrained(staging)
        if model.is_remote_code():
            from transformers.dynamic_module_utils import custom_object_save

            custom_object_save(model, staging, config=model.config)
        tokenizer.save_pretrained(staging)
    return directory


@contextmanager
def replaced(directory: Path, origin: dict[str, Any]) -> Iterator[Path]:
    """A directory to write in, which takes the place of `directory` after the block."""
    staging = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    yield staging
    (staging / "sq.json").write_text(json.dumps(origin, indent=2, sort_keys=True) + "\n")
    for path in staging.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if directory.exists():
        shutil.rmtree(directory)
    staging.rename(directory)


def write_weights(weights: Iterable[tuple[str, Tensor]], directory: Path, dtype: torch.dtype) -> None:
    """Write weights as they come, in files of at most `FILE_BYTES`, with an index where there are several."""
    files: list[list[str]] = []
    part: dict[str, Tensor] = {}
    sizes = [0]

    def write() -> None:
        files.append(list(part))
        save_file(part, directory / NAME.format(f"-{len(files)}"), metadata={"format": "pt"})
        part.clear()
        sizes.append(0)

    for name, tensor in weights:
        tensor = tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype).contiguous()
        if part and sizes[-1] + tensor.nbytes > FILE_BYTES:
            write()
        # In storage of its own: what is a part of a larger tensor, as FSDP's are, safetensors refuses.
        part[name] = tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
        sizes[-1] += tensor.nbytes
    write()
    count = len(files)
    index: dict[str, str] = {}
    for number, names in enumerate(files, 1):
        final = NAME.format("" if count == 1 else f"-{number:05d}-of-{count:05d}")
        (directory / NAME.format(f"-{number}")).rename(directory / final)
        index |= dict.fromkeys(names, final)
    if count > 1:
        whole = {"metadata": {"total_size": sum(sizes)}, "weight_map": index}
        (directory / "model.safetensors.index.json").write_text(json.dumps(whole, indent=2) + "\n")


def _as_stored(model: PreTrainedModel, weights: Iterable[tuple[str, Tensor]]) -> Iterable[tuple[str, Tensor]]:
    """The names and shapes of the files that the family has on the hub, where transformers holds others in memory.

    That needs all weights at once: such families (mixtures of experts) are held whole.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import revert_weight_conversion

    conversions = getattr(model, "_weight_conversions", None)
    if conversions is None:
        conversions = get_model_conversion_mapping(model, add_legacy=False)
    return revert_weight_conversion(model, dict(weights)).items() if conversions else weights
