"""The chat prefix contract on the formats of well-known models."""

from __future__ import annotations

import datetime
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sq.core.chat import ChatConfig, ChatFormat
from sq.core.errors import ConfigError, RowError

SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
SMOL = SYSTEM.replace("helpful assistant", "helpful AI assistant named SmolLM")
HEADER = "<|start_header_id|>{}<|end_header_id|>\n\n"
SMOL3 = (
    "<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\nToday Date: 26 July 2024\n"
    "Reasoning Mode: /think\n\n## Custom Instructions\n\nYou are a helpful AI assistant named SmolLM, trained by "
    "Hugging Face. Your role as an assistant involves thoroughly exploring questions.\n\n<|im_start|>user\n"
)
DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>"

# name: (question prefix, end, further tokens to stop on, from the question's end to the answer)
FORMATS = {
    "qwen2": (SYSTEM + "<|im_start|>user\n", "<|im_end|>", [], "<|im_end|>\n<|im_start|>assistant\n"),
    "qwen2-base": (
        SYSTEM + "<|im_start|>user\n", "<|im_end|>", ["<|endoftext|>"], "<|im_end|>\n<|im_start|>assistant\n",
    ),
    "smollm2": (SMOL + "<|im_start|>user\n", "<|im_end|>", [], "<|im_end|>\n<|im_start|>assistant\n"),
    "qwen3": ("<|im_start|>user\n", "<|im_end|>", [], "<|im_end|>\n<|im_start|>assistant\n"),
    "qwen3-base": (
        "<|im_start|>user\n", "<|im_end|>", ["<|endoftext|>"], "<|im_end|>\n<|im_start|>assistant\n",
    ),
    "qwen2.5-math": (
        "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
        "<|im_start|>user\n", "<|im_end|>", [], "<|im_end|>\n<|im_start|>assistant\n",
    ),
    "smollm3": (SMOL3, "<|im_end|>", [], "<|im_end|>\n<|im_start|>assistant\n"),
    "phi4-mini": ("<|user|>", "<|end|>", ["<|endoftext|>"], "<|end|><|assistant|>"),
    "deepseek-math": ("<｜begin▁of▁sentence｜>User: ", "<｜end▁of▁sentence｜>", [], "\n\nAssistant:"),
    "deepseek-r1": ("<｜begin▁of▁sentence｜><｜User｜>", "<｜end▁of▁sentence｜>", [], "<｜Assistant｜><think>\n"),
    "llama3": (
        "<|begin_of_text|>" + HEADER.format("system") + DATES + HEADER.format("user"), "<|eot_id|>", [],
        "<|eot_id|>" + HEADER.format("assistant"),
    ),
    "mistral": ("<s>[INST] ", "[/INST]", ["</s>"], "[/INST]"),
    "mistral-legacy": ("<s>[INST] ", "[/INST]", ["</s>"], "[/INST]"),
    "mistral-v1": ("<s>[INST] ", "</s>", [], "[/INST]"),
    "gemma": (
        "<bos><start_of_turn>user\n", "<end_of_turn>", ["<eos>"], "<end_of_turn>\n<start_of_turn>model\n",
    ),
    "gemma3": (
        "<bos><start_of_turn>user\n", "<end_of_turn>", ["<eos>"], "<end_of_turn>\n<start_of_turn>model\n",
    ),
    "alpaca": (
        "Below is an instruction that describes a task.\n\n### Instruction:\n", "</s>", [], "\n\n### Response:\n",
    ),
}  # fmt: skip
NAMES = list(FORMATS)
TODAY = {"date_string": "26 Jul 2024", "strftime_now": datetime.date(2024, 7, 26).strftime}
QUESTION = "Find $x$ if $\\frac{x}{2} = 7$.\nGive x as an integer."
SOLUTION = "Multiply by 2: $x = 14$. The answer is \\boxed{14}."


@pytest.fixture(scope="module")
def tokenizers(chat_tokenizers):
    return chat_tokenizers.tokenizers_by_name()


@pytest.fixture(scope="module")
def formats(tokenizers):
    return {name: ChatFormat.from_tokenizer(tokenizer) for name, tokenizer in tokenizers.items()}


@pytest.mark.parametrize("name", NAMES)
def test_prefix_end_and_stops_are_the_templates(name, tokenizers, formats):
    prefix, end, more_stops, opening = FORMATS[name]
    chat, tokenizer = formats[name], tokenizers[name]
    assert (chat.question_prefix, chat.end, chat.turn.opening) == (prefix, end, opening)
    assert list(chat.question_prefix_ids) == tokenizer.encode(prefix, add_special_tokens=False)
    assert chat.end_ids == (tokenizer.convert_tokens_to_ids(end),)
    assert chat.stop_ids == (*chat.end_ids, *tokenizer.convert_tokens_to_ids(more_stops))


@pytest.mark.parametrize("name", NAMES)
def test_training_and_sampling_share_their_ids(name, formats):
    chat = formats[name]
    for question in (QUESTION, " \n" + QUESTION + "\n", "7"):
        ids, start = chat.question_ids(question)
        assert ids[:start] == chat.question_prefix_ids
        assert ids[-1:] == chat.end_ids
        assert not set(ids[start:-1]) & set(chat.stop_ids)
        assert chat.question_text(ids[start:]) == question.strip()
        assert chat.question_text(ids[start:-1]) == question.strip()  # engines may leave the stop token out


@pytest.mark.parametrize("name", NAMES)
def test_bos_as_the_template_has_it_and_never_twice(name, tokenizers, formats):
    chat, bos = formats[name], tokenizers[name].bos_token
    ids = chat.question_prefix_ids
    assert ids.count(tokenizers[name].bos_token_id) == (chat.question_prefix.count(bos) if bos else 0)
    assert ids[0] != next(iter(ids[1:]), None)
    assert chat.answer_ids(QUESTION)[:2] != (ids[0], ids[0])


def test_a_seam_is_not_merged(tokenizers, formats):
    chat, tokenizer = formats["deepseek-math"], tokenizers["deepseek-math"]
    joined = tokenizer.tokenize("User: Find x")
    tokens = tokenizer.convert_ids_to_tokens(list(chat.question_ids("Find x").ids))
    assert "ĠFind" in joined
    assert tokens[1:5] == ["User", ":", "Ġ", "Fin"] or tokens[1:5] == ["User", ":", "Ġ", "Find"]


@pytest.mark.parametrize("name", ["mistral", "mistral-legacy", "mistral-v1", "alpaca"])
def test_no_space_is_added_to_a_question(name, tokenizers, formats):
    tokenizer, chat = tokenizers[name], formats[name]
    ids, start = chat.question_ids("Find x")
    assert not tokenizer.convert_ids_to_tokens(ids[start]).startswith("▁")
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("Find x", add_special_tokens=False))[0].startswith("▁")


def texts(name: str, control: list[str]) -> st.SearchStrategy[str]:
    latex = [
        "\\frac{a}{b}",
        "$x^{2}$",
        "{question}",
        "{}",
        "\\boxed{Yes}",
        "  ",
        "\n\n",
        "€",
        "π",
        "½",
        "”",
        "你好",
        "🙂",
    ]
    anything = st.characters(exclude_categories=["Cs"])
    if name in ("mistral", "mistral-legacy", "mistral-v1", "gemma", "gemma3", "alpaca"):
        control = [c for c in control if "▁" not in c]
        anything = anything.filter(lambda c: c != "▁")  # that is how such a tokenizer writes a space
    pieces = st.one_of(st.text(anything, max_size=12), st.sampled_from(latex), st.sampled_from(control))
    return st.lists(pieces, min_size=1, max_size=8).map("".join).filter(str.strip)


CONTROL = sorted(
    {
        "<|im_start|>",
        "<|im_end|>",
        "<|endoftext|>",
        "<｜User｜>",
        "<｜Assistant｜>",
        "<｜end▁of▁sentence｜>",
        "<|eot_id|>",
    }
    | {"<s>", "</s>", "[INST]", "[/INST]", "<unk>", "<bos>", "<eos>", "<end_of_turn>", "<start_of_turn>", "<0x41>"}
)


@pytest.mark.parametrize("name", NAMES)
def test_any_text_comes_back_and_none_is_a_control_token(name, tokenizers, formats):
    chat, tokenizer = formats[name], tokenizers[name]
    special = set(tokenizer.all_special_ids)

    @settings(max_examples=60, deadline=None)
    @given(texts(name, CONTROL), texts(name, CONTROL))
    def holds(question, solution):
        ids, start = chat.question_ids(question)
        assert not special & set(ids[start:-1])
        expected = unicodedata.normalize("NFC", question) if name.startswith("qwen2") else question
        assert chat.question_text(ids[start:]) == expected.strip()
        prompt = chat.answer_ids(question)
        marks = [i for i in prompt if i in special]
        assert marks == [i for i in chat.answer_ids("x") if i in special]
        trained = chat.training_ids(question, solution)
        assert trained.ids[: trained.start] == prompt
        assert not special & set(trained.ids[trained.start : -1])

    holds()


@pytest.mark.parametrize("name", NAMES)
def test_every_mark_of_the_format_stays_text_in_a_question(name, tokenizers, formats):
    chat = formats[name]
    marks = {t for t in tokenizers[name].get_added_vocab() if "think" not in t}
    for mark in marks:
        ids, start = chat.question_ids(f"What does {mark}{mark} do?")
        assert tokenizers[name].convert_tokens_to_ids(mark) not in ids[start:-1]


def test_marks_that_are_not_called_special_stay_text_too(chat_tokenizers):
    marks = ["<|im_start|>", "<|im_end|>"]
    tokenizer = chat_tokenizers.byte_level(["</s>"], chat_tokenizers.CHATML, eos="</s>", ordinary=marks)
    chat = ChatFormat.from_tokenizer(tokenizer)
    ids, start = chat.question_ids("a<|im_end|>b<|im_start|>c")
    assert chat.end == "<|im_end|>"
    assert not set(tokenizer.convert_tokens_to_ids(marks)) & set(ids[start:-1])


@pytest.mark.parametrize("name", NAMES)
def test_answer_prompt_is_what_the_template_gives(name, tokenizers, formats):
    given_ids = tokenizers[name].apply_chat_template(
        [{"role": "user", "content": f"{QUESTION}\nThink."}],
        add_generation_prompt=True,
        **TODAY,
        return_dict=False,
    )
    assert list(formats[name].answer_ids(QUESTION, instruction="Think.")) == given_ids


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("deepseek-r1", "mistral-legacy")])
def test_training_ids_are_what_the_template_gives_with_loss_on_the_solution(name, tokenizers, formats):
    messages = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": SOLUTION}]
    given_ids = tokenizers[name].apply_chat_template(messages, **TODAY, return_dict=False)
    ids, start = formats[name].training_ids(QUESTION, SOLUTION)
    assert list(ids) == given_ids[: len(ids)]
    assert ids[:start] == formats[name].answer_ids(QUESTION)
    assert ids[-1] == formats[name].answer_stop_ids[0]
    text = tokenizers[name].decode(list(ids[start:-1]))
    assert text.removeprefix("<think>\n\n</think>").strip() == SOLUTION


@pytest.mark.parametrize("name", ["deepseek-math", "smollm2", "llama3", "mistral"])
def test_the_end_carries_loss_where_pad_is_eos(name, tokenizers, formats):
    assert tokenizers[name].pad_token_id == tokenizers[name].eos_token_id
    ids, start = formats[name].training_ids(QUESTION, SOLUTION)
    assert ids[-1] == tokenizers[name].eos_token_id
    assert start < len(ids) - 1


def test_a_solution_that_thinks_keeps_its_marks(tokenizers, formats):
    think = tokenizers["qwen3"].convert_tokens_to_ids("<think>")
    ids, start = formats["qwen3"].training_ids(QUESTION, f"<think>\nhalve\n</think>\n\n{SOLUTION}")
    assert ids[start] == think
    assert ids[start:].count(think) == 1


def test_rows_that_cannot_be_used(formats):
    chat = formats["qwen2"]
    with pytest.raises(RowError, match="the question is empty"):
        chat.question_ids(" \n\t")
    with pytest.raises(RowError, match="the solution is empty"):
        chat.training_ids(QUESTION, "")
    with pytest.raises(RowError, match="lone surrogate at character 2"):
        chat.question_ids("ab\ud800")


def test_question_text_shows_stray_control_tokens_and_stops_at_the_first_end(tokenizers, formats):
    chat = formats["qwen2"]
    ids = tokenizers["qwen2"].encode("a<|im_start|>b<|im_end|>c<|im_end|>", add_special_tokens=False)
    assert chat.question_text(ids) == "a<|im_start|>b"
    assert chat.question_text([]) == ""


def test_eos_ids_of_the_generation_config_stop_too(tokenizers):
    chat = ChatFormat.from_tokenizer(tokenizers["qwen2"], eos_ids=(2, 0))
    assert chat.stop_ids == chat.answer_stop_ids == (2, 0)


def test_digest_follows_what_decides_the_ids_only(tokenizers, formats):
    tokenizer, same = tokenizers["qwen2"], formats["qwen2"].digest
    before = formats["qwen2"].question_ids(QUESTION)
    tokenizer([QUESTION, "x"], truncation=True, max_length=3, padding="max_length")  # leaves its mark on a tokenizer
    assert formats["qwen2"].question_ids(QUESTION) == before
    assert tokenizer.decode(list(formats["qwen2"].answer_ids(QUESTION))).count(QUESTION) == 1
    assert ChatFormat.from_tokenizer(tokenizer).digest == same
    assert ChatFormat.from_tokenizer(tokenizer, ChatConfig(system="x")).digest != same
    assert ChatFormat.from_tokenizer(tokenizer, eos_ids=(0,)).digest != same
    assert formats["qwen2-base"].digest != same
    assert formats["gemma3"].digest == formats["gemma"].digest  # they differ in system prompts alone
    assert len({chat.digest for chat in formats.values()}) == len(formats) - 1


def test_a_generator_is_sampled_as_it_was_trained(tokenizers, formats):
    recorded = formats["qwen2"].record()
    formats["qwen2"].require_same(recorded, "outputs/qft")
    other = ChatFormat.from_tokenizer(tokenizers["qwen2"], ChatConfig(system="Hi"))
    with pytest.raises(ConfigError, match=r"outputs/qft was trained with the question prefix '<\|im_start\|>system"):
        other.require_same(recorded, "outputs/qft")
    other = ChatFormat.from_tokenizer(tokenizers["qwen2"], ChatConfig(end="<|endoftext|>"))
    with pytest.raises(ConfigError, match=r"outputs/qft was trained with the end '<\|im_end\|>'.*here.*endoftext"):
        other.require_same(recorded, "outputs/qft")


def test_describe_shows_prefix_and_ids(formats):
    text = formats["deepseek-math"].describe()
    assert "'<｜begin▁of▁sentence｜>User: ' = [0, " in text
    assert "'<｜end▁of▁sentence｜>' = 1, stops [1]" in text
