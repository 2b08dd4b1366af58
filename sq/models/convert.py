"""From a SmolLM2 GGUF to a model directory in Hugging Face form, proved to compute the same.

The weights are stored as fp16: a dequantised weight is a 4-bit number times an fp16 scale plus an fp16 offset, and fp16
moves the logits of `PROMPT` (largest: 35) by 0.032 at most, bf16 by 0.185, in the same 270 MB. Computing is another
matter: bf16 or fp32, as SmolLM2 was trained, not fp16.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sq.core.errors import EngineError
from sq.models.load import quiet

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

PROMPT = "Tom has 12 apples and buys 30 more.\n\n1. How many apples does he have now?"
PIECES = ("\n\n", "1", ".", " How")  # how SmolLM2 itself splits the middle of PROMPT
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TOLERANCE = 0.05  # on logits of about 20, from rounding the weights to fp16


def convert(gguf: Path, target: Path) -> None:
    """Write the model in `gguf` to the directory `target`.

    Raises:
        EngineError: what was written does not load, or computes something else than the GGUF does.
    """
    import torch

    quiet()
    model = read_model(gguf)
    tokenizer = read_tokenizer(gguf)
    check_tokenizer(tokenizer)
    reference = logits(model, tokenizer)
    model.to(torch.float16)
    model.config.dtype = torch.float16
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    check_written(target, reference)


def read_model(gguf: Path) -> LlamaForCausalLM:
    """The dequantised model in fp32, with a config that knows nothing of GGUF."""
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    loaded = LlamaForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype="float32")
    settings = loaded.config.to_dict()
    for name in ("quantization_config", "_name_or_path", "transformers_version"):
        settings.pop(name, None)
    settings["rms_norm_eps"] = float(f"{settings['rms_norm_eps']:.6g}")  # 1e-05, which GGUF holds as a 32-bit float
    model = LlamaForCausalLM(LlamaConfig(**settings)).eval()
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    ids = {name: getattr(model.config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    model.generation_config = GenerationConfig(**ids)
    return model


def read_tokenizer(gguf: Path) -> PreTrainedTokenizerFast:
    """The tokenizer, with what the conversion of transformers leaves out: numbers are cut into digits first.

    Without that step a blank line before a number becomes two tokens that the model has hardly seen.
    """
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    read = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    backend = read.backend_tokenizer
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=read.bos_token,
        eos_token=read.eos_token,
        pad_token=read.pad_token,
        unk_token=read.unk_token,
        chat_template=read.chat_template,
        clean_up_tokenization_spaces=False,
        model_max_length=8192,
    )


def check_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    """Refuse a tokenizer that would speak to the model in other tokens than it was trained on."""
    ids = [tokenizer.encode(token, add_special_tokens=False) for token in SPECIAL]
    if ids != [[0], [1], [2]]:
        raise EngineError(f"the tokenizer of the GGUF splits special tokens: {dict(zip(SPECIAL, ids, strict=True))}")
    pieces = tuple(tokenizer.decode([i]) for i in tokenizer.encode(PROMPT, add_special_tokens=False))
    if not any(pieces[i : i + len(PIECES)] == PIECES for i in range(len(pieces))):
        raise EngineError(f"the tokenizer of the GGUF does not split as SmolLM2's does: {pieces}")
    if not tokenizer.chat_template:
        raise EngineError("the GGUF has no chat template")


def check_written(target: Path, reference: torch.Tensor) -> None:
    """Load what was written, as anyone would, and compare."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(target, dtype="float32", use_safetensors=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(target)
    check_tokenizer(tokenizer)
    off = (logits(model, tokenizer) - reference).abs().max().item()
    if not off <= TOLERANCE:  # so that NaN fails too
        raise EngineError(
            f"the converted model is not the model in the GGUF: its logits differ by up to {off:.3g}. `make setup` "
            "installs the release of transformers that this was tested with"
        )


def logits(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    import torch

    with torch.no_grad():
        out: torch.Tensor = model(**tokenizer(PROMPT, return_tensors="pt")).logits[0].float()
    return out
