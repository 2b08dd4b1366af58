"""Small tokenizers with the chat formats of well-known models: their kinds of pieces, marks and templates."""

from __future__ import annotations

import functools
import json

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "User: Find the value of $x$ such that $\\frac{1}{2}x + 3 = 10$. How many apples does Ann have?",
    "system You are a helpful assistant. user assistant Below is an instruction that describes a task.",
    "### Instruction: ### Response: A train travels 60 miles in 2 hours; what is its speed in miles per hour?",
    "Assistant: The answer is \\boxed{14}. Cutting Knowledge Date: December 2023 Today Date: 26 Jul 2024",
]

CHATML = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# Qwen2.5-Math: the same with another system prompt, base and instruct.
QWEN_MATH = CHATML.replace(
    "You are a helpful assistant.", "Please reason step by step, and put your final answer within \\\\boxed{}."
)
QWEN3 = (
    "{% for m in messages %}{% set content = m['content'] %}"
    "{% if m['role'] == 'assistant' %}{% if '</think>' in content %}"
    "{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
    "{{ '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + content + '<|im_end|>\\n' }}"
    "{% else %}{{ '<|im_start|>' + m['role'] + '\\n' + content + '<|im_end|>\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{% endif %}"
)
DEEPSEEK = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ 'User: ' + m['content'] + '\\n\\n' }}"
    "{% elif m['role'] == 'assistant' %}{{ 'Assistant: ' + m['content'] + eos_token }}"
    "{% elif m['role'] == 'system' %}{{ m['content'] + '\\n\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
R1 = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ m['content'] }}"
    "{% elif m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}"
    "{% else %}{{ '<｜Assistant｜>' + m['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] | trim %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: December 2023\\nToday Date: ' }}"
    "{{ date_string + '\\n\\n' + system + '<|eot_id|>' }}"
    "{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' }}"
    "{{ m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
MISTRAL = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\\n\\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}{{ bos_token }}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + system + m['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\\n' + m['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
GEMMA3 = (  # a system prompt becomes the beginning of the user's first turn
    "{{ bos_token }}{% set first = '' %}{% if messages[0]['role'] == 'system' %}"
    "{% set first = messages[0]['content'] + '\\n\\n' %}{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\\n' }}"
    "{{ (first if loop.first else '') + m['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
# The system turn has no end of its own. With thinking, long instructions stand there; they are shortened here.
SMOLLM3 = (
    "{% set thinks = enable_thinking is not defined or enable_thinking %}"
    "{% set given = messages[0]['role'] == 'system' %}{% set lead = '' if thinks else '<think>\\n\\n</think>\\n' %}"
    "{{ '<|im_start|>system\\n## Metadata\\n\\nKnowledge Cutoff Date: June 2025\\nToday Date: ' }}"
    "{{ strftime_now('%d %B %Y') + '\\nReasoning Mode: ' + ('/think' if thinks else '/no_think') }}"
    "{{ '\\n\\n## Custom Instructions\\n\\n' }}"
    "{% if given %}{{ messages[0]['content'] | trim }}{% else %}"
    "{{ 'You are a helpful AI assistant named SmolLM, trained by Hugging Face.' }}"
    "{{ ' Your role as an assistant involves thoroughly exploring questions.' if thinks else '' }}{% endif %}"
    "{{ '\\n\\n' }}"
    "{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ '<|im_start|>user\\n' + m['content'] + '<|im_end|>\\n' }}"
    "{% elif m['role'] == 'assistant' %}{{ '<|im_start|>assistant\\n' + lead }}"
    "{{ m['content'].lstrip('\\n') + '<|im_end|>\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' + lead }}{% endif %}"
)
PHI4_MINI = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{{ '<|assistant|>' if add_generation_prompt else eos_token }}"
)
ALPACA = (
    "{{ 'Below is an instruction that describes a task.\\n\\n' }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ '### Instruction:\\n' + m['content'] + '\\n\\n' }}"
    "{% elif m['role'] == 'assistant' %}{{ '### Response:\\n' + m['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}"
)


@functools.cache
def tokenizers_by_name() -> dict[str, PreTrainedTokenizerFast]:
    """Every format under the name of a model that has it. Shared by all tests: do not change one."""
    im = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    deep = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"]
    llama = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"]
    spm = ["<unk>", "<s>", "</s>"]
    gemma = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    think = ["<think>", "</think>"]
    smol = CHATML.replace("helpful assistant", "helpful AI assistant named SmolLM")
    phi = ["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    made = {
        "qwen2": byte_level(im, CHATML, eos=im[2], pad=im[0], normal_form=True),
        "smollm2": byte_level(im, smol, bos=im[1], eos=im[2], pad=im[2]),
        "qwen2-base": byte_level(im, CHATML, eos=im[0], pad=im[0], normal_form=True),
        "qwen3": byte_level(im, QWEN3, eos=im[2], pad=im[0], ordinary=think),
        "qwen3-base": byte_level(im, QWEN3, eos=im[0], pad=im[0], ordinary=think),
        "qwen2.5-math": byte_level(im, QWEN_MATH, eos=im[2], pad=im[0], normal_form=True),
        "smollm3": byte_level(im, SMOLLM3, eos=im[2], pad=im[2], ordinary=think),
        "phi4-mini": byte_level(phi, PHI4_MINI, bos=phi[0], eos=phi[0], pad=phi[0]),
        "deepseek-math": byte_level(deep, DEEPSEEK, bos=deep[0], eos=deep[1], pad=deep[1], adds_bos=True),
        "deepseek-r1": byte_level(
            deep, R1, bos=deep[0], eos=deep[1], pad=deep[1], ordinary=["<｜User｜>", "<｜Assistant｜>", *think]
        ),
        "llama3": byte_level(llama, LLAMA3, bos=llama[0], eos=llama[3], pad=llama[3], adds_bos=True),
        "mistral": sentencepiece([*spm, "[INST]", "[/INST]"], MISTRAL, space="first", bos="<s>", eos="</s>"),
        "mistral-legacy": sentencepiece([*spm, "[INST]", "[/INST]"], MISTRAL, space="always", bos="<s>", eos="</s>"),
        "mistral-v1": sentencepiece(spm, MISTRAL, space="always", bos="<s>", eos="</s>"),
        "gemma": sentencepiece(gemma, GEMMA, space="never", bos="<bos>", eos="<eos>"),
        "gemma3": sentencepiece(gemma, GEMMA3, space="never", bos="<bos>", eos="<eos>"),
        "alpaca": sentencepiece(spm, ALPACA, space="always", bos="<s>", eos="</s>", adds_bos=True),
    }
    for name, tokenizer in made.items():
        tokenizer.name_or_path = name
    return made


def byte_level(
    special: list[str],
    template: str | None,
    *,
    eos: str | None,
    bos: str | None = None,
    pad: str | None = None,
    adds_bos: bool = False,
    normal_form: bool = False,
    ordinary: list[str] | None = None,
) -> PreTrainedTokenizerFast:
    """A byte-level BPE (Qwen, Llama 3, DeepSeek, SmolLM); `ordinary` are added tokens that are not called special."""
    made = Tokenizer(models.BPE())
    if normal_form:
        made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(CORPUS * 3, trainer)
    made.add_tokens([AddedToken(token, special=False, normalized=False) for token in ordinary or []])
    return _finished(made, template, bos, eos, pad, adds_bos)


def sentencepiece(
    special: list[str],
    template: str | None,
    *,
    space: str,
    bos: str,
    eos: str,
    adds_bos: bool = False,
) -> PreTrainedTokenizerFast:
    """A BPE over metaspaces with byte fallback. `space`: where a fragment gets a space of its own.

    "first" and "never" are what recent conversions have, "always" the normalizer of Llama 2's own tokenizer.json.
    """
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    replace = normalizers.Replace(" ", "▁")
    if space == "always":
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace])
    elif space == "first":
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        made.normalizer = replace
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    made.decoder = decoders.Sequence(steps if space == "never" else [*steps, decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))],
        initial_alphabet=[chr(c) for c in range(33, 127)] + ["▁"],
        show_progress=False,
    )
    words = [word for line in CORPUS * 3 for word in line.split()]
    made.train_from_iterator([word for w in words for word in (w, "▁" + w)], trainer)
    # The 256 byte entries are ordinary pieces, not marks: take them out of the added tokens again.
    return _finished(_without_byte_marks(made), template, bos, eos, "<pad>" if "<pad>" in special else eos, adds_bos)


def _without_byte_marks(made: Tokenizer) -> Tokenizer:
    state = json.loads(made.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if not t["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(state))


def _finished(
    made: Tokenizer, template: str | None, bos: str | None, eos: str | None, pad: str | None, adds_bos: bool
) -> PreTrainedTokenizerFast:
    if adds_bos and bos:
        made.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, made.token_to_id(bos))]
        )
    finished = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=bos, eos_token=eos, pad_token=pad, clean_up_tokenization_spaces=False
    )
    finished.chat_template = template
    return finished
