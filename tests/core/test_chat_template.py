"""Chat formats that are set by hand, and templates that need it."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from sq.core.chat import ChatConfig, ChatFormat
from sq.core.config import build, conf_dir
from sq.core.errors import ConfigError

QUESTION = "Find $x$ if $\\frac{x}{2} = 7$.\nGive x as an integer."
SOLUTION = "Multiply by 2: $x = 14$. The answer is \\boxed{14}."


@pytest.fixture(scope="module")
def tokenizers(chat_tokenizers):
    return chat_tokenizers.tokenizers_by_name()


THINKING = [
    # model, mode, how an answer begins, whether the question's prefix says the mode
    ("qwen3", True, "<|im_start|>assistant\n", False),
    ("qwen3", False, "<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
    ("smollm3", True, "<|im_start|>assistant\n", True),
    ("smollm3", False, "<|im_start|>assistant\n<think>\n\n</think>\n", True),
]


@pytest.mark.parametrize(("name", "thinking", "opening", "told"), THINKING)
def test_thinking_mode(tokenizers, name, thinking, opening, told):
    chat = ChatFormat.from_tokenizer(tokenizers[name], ChatConfig(thinking=thinking))
    assert chat.turn.opening.endswith(opening)
    assert (("/think" if thinking else "/no_think") in chat.question_prefix) is told
    ids, start = chat.training_ids(QUESTION, SOLUTION)
    trained = tokenizers[name].decode(list(ids[start:-1]))
    assert trained.endswith(SOLUTION) and (thinking or trained == SOLUTION)


def test_a_template_without_a_thinking_mode_is_named(tokenizers):
    with pytest.raises(ConfigError, match=r"knows no thinking mode, so chat.thinking=true has no effect"):
        ChatFormat.from_tokenizer(tokenizers["qwen2"], ChatConfig(thinking=True))


TUNED = {"google/gemma-3": "gemma3", "meta-llama/Llama-3.2": "llama3"}
BY_HAND = [path for path in sorted((conf_dir() / "model").glob("*.yaml")) if "  prefix:" in path.read_text()]


@pytest.mark.parametrize("path", BY_HAND, ids=lambda path: path.stem)
def test_texts_by_hand_of_a_preset_hold_on_its_tokenizer(path, tokenizers):
    """Base models whose texts the YAML writes: on the tokens that their tuned versions share with them."""
    preset = OmegaConf.load(path)
    name = next((known for start, known in TUNED.items() if preset.path.startswith(start)), None)
    if name is None:
        pytest.skip(f"no tokenizer like that of {preset.path} is among the tests'")
    chat = ChatFormat.from_tokenizer(tokenizers[name], build(preset.chat, ChatConfig))
    ids, start = chat.question_ids(QUESTION)
    assert tokenizers[name].decode(list(ids)) == f"{chat.question_prefix}{QUESTION}{preset.chat.end}"
    assert ids[:start] == chat.question_prefix_ids and ids[-1:] == chat.end_ids
    if name == "gemma3":
        assert chat.question_prefix_ids == ChatFormat.from_tokenizer(tokenizers[name]).question_prefix_ids
        assert chat.answer_ids(QUESTION) == ChatFormat.from_tokenizer(tokenizers[name]).answer_ids(QUESTION)


def test_system_prompt_by_hand(tokenizers):
    chat = ChatFormat.from_tokenizer(tokenizers["qwen2"], ChatConfig(system="Write \\boxed{}."))
    assert chat.question_prefix == "<|im_start|>system\nWrite \\boxed{}.<|im_end|>\n<|im_start|>user\n"
    mistral = ChatFormat.from_tokenizer(tokenizers["mistral"], ChatConfig(system="Be brief."))
    assert mistral.question_prefix == "<s>[INST] Be brief.\n\n"
    empty = ChatFormat.from_tokenizer(tokenizers["qwen2"], ChatConfig(system=""))
    assert empty.question_prefix == "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n"


def test_system_prompt_where_the_template_has_no_place_for_it(tokenizers):
    with pytest.raises(ConfigError, match=r"'gemma' fails on chat.system='Hi': System role not supported"):
        ChatFormat.from_tokenizer(tokenizers["gemma"], ChatConfig(system="Hi"))
    with pytest.raises(ConfigError, match=r"does not use a system message, so chat.system='Hi' would be lost"):
        ChatFormat.from_tokenizer(tokenizers["alpaca"], ChatConfig(system="Hi"))


def test_a_date_in_the_template_stands_still(tokenizers):
    llama = ChatFormat.from_tokenizer(tokenizers["llama3"])
    assert "Today Date: 26 Jul 2024" in llama.question_prefix
    later = ChatFormat.from_tokenizer(tokenizers["llama3"], ChatConfig(date="2025-01-02"))
    assert "Today Date: 02 Jan 2025" in later.question_prefix
    assert later.digest != llama.digest


def test_no_template_is_fixed_by_hand(chat_tokenizers):
    bare = chat_tokenizers.byte_level(["<s>", "</s>"], None, bos="<s>", eos="</s>", adds_bos=True)
    bare.name_or_path = "bare"
    with pytest.raises(
        ConfigError, match=r"'bare' has no chat template.*model\.chat\.prefix=.*model\.chat\.end='</s>'"
    ):
        ChatFormat.from_tokenizer(bare, key="model.chat")
    chat = ChatFormat.from_tokenizer(bare, ChatConfig(prefix="<s>Question:\\n", end="</s>"))
    ids, start = chat.question_ids(QUESTION)
    assert chat.question_prefix == "<s>Question:\n"
    assert bare.decode(list(ids)) == f"<s>Question:\n{QUESTION}</s>"
    assert ids.count(bare.bos_token_id) == 1
    with pytest.raises(ConfigError, match=r"no prompt for answers.*set chat.answer_prefix="):
        chat.answer_ids(QUESTION)
    assert "answer    none" in chat.describe()
    config = ChatConfig(prefix="<s>Question:\\n", end="</s>", answer_prefix="\\nAnswer: ")
    trained = ChatFormat.from_tokenizer(bare, config).training_ids(QUESTION, SOLUTION)
    assert bare.decode(list(trained.ids)) == f"<s>Question:\n{QUESTION}\nAnswer: {SOLUTION}</s>"


def test_parts_of_a_template_by_hand(tokenizers):
    chat = ChatFormat.from_tokenizer(tokenizers["qwen2"], ChatConfig(prefix="<|im_start|>user\n"))
    assert (chat.question_prefix, chat.end) == ("<|im_start|>user\n", "<|im_end|>")
    assert chat.answer_ids(QUESTION) == ChatFormat.from_tokenizer(tokenizers["qwen2"]).answer_ids(QUESTION)
    alpaca = ChatConfig(
        prefix="### Instruction:\n",
        end="<|endoftext|>",
        answer_prefix="\n\n### Response:\n",
        answer_end="<|endoftext|>",
    )
    chat = ChatFormat.from_tokenizer(tokenizers["qwen2-base"], alpaca)
    text = tokenizers["qwen2-base"].decode(list(chat.training_ids("1 + 1?", "2").ids))
    assert text == "### Instruction:\n1 + 1?\n\n### Response:\n2<|endoftext|>"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{{ bos_token }}{% for m in messages %}{{ m['content'] | upper }}{% endfor %}",
            "does not hold the user's text",
        ),
        ("<s>{% for m in messages %}{{ m['content'] + m['content'] }}{% endfor %}", "repeats the user's text"),
        ("<s>{% for m in messages %}{{ m['content'] | tojson }}{% endfor %}", "does not hold the user's text"),
        ("<s>{{ messages[0]['content'] | length }}{{ messages[0]['content'] }}", "different text around different"),
        ("{{ messages[0]['content'] }}</s>", "puts nothing before the user's text"),
        ("{{ raise_exception('no thanks') }}", "fails on a user message: no thanks"),
        ("{{ messages[0]['content'] ", "fails on a user message"),
        ("{{ nothing.at.all }}", "fails on a user message"),
        ("", "has no chat template"),
    ],
)
def test_a_template_that_cannot_be_split_is_named_with_the_fix(template, message, chat_tokenizers):
    tokenizer = chat_tokenizers.byte_level(["<s>", "</s>"], template, bos="<s>", eos="</s>")
    tokenizer.name_or_path = "odd"
    with pytest.raises(ConfigError, match=rf"'odd'.*{message}(.|\n)*chat\.prefix=(.|\n)*chat\.end=") as caught:
        ChatFormat.from_tokenizer(tokenizer)
    assert caught.value.exit_code == 2
    by_hand = ChatFormat.from_tokenizer(tokenizer, ChatConfig(prefix="<s>", end="</s>"))
    assert by_hand.question_ids("x").start == 1


def test_an_end_that_is_no_token_is_refused(tokenizers, chat_tokenizers):
    with pytest.raises(ConfigError, match=r"chat.end='\\n' is no special token .* it has .*<\|im_end\|>"):
        ChatFormat.from_tokenizer(tokenizers["qwen2"], ChatConfig(end="\\n"))
    endless = chat_tokenizers.byte_level(
        ["<s>"], chat_tokenizers.ALPACA.replace(" + eos_token", ""), eos=None, bos="<s>"
    )
    with pytest.raises(ConfigError, match=r"has no eos token to end with; set chat.end="):
        ChatFormat.from_tokenizer(endless)


def test_a_broken_prefix_is_found_before_any_weight_is_loaded(tokenizers, chat_tokenizers):
    with pytest.raises(ConfigError, match="the question prefix starts with two BOS tokens"):
        ChatFormat.from_tokenizer(
            tokenizers["deepseek-math"], ChatConfig(prefix="<｜begin▁of▁sentence｜><｜begin▁of▁sentence｜>User: ")
        )
    split = chat_tokenizers.byte_level(["<|im_start|>", "<|im_end|>"], chat_tokenizers.CHATML, eos="<|im_end|>")
    split.split_special_tokens = True
    with pytest.raises(ConfigError, match=r"<\|im_end\|>, <\|im_start\|> in the question prefix is not one token"):
        ChatFormat.from_tokenizer(split)
    lower = chat_tokenizers.byte_level(["</s>"], chat_tokenizers.ALPACA, eos="</s>")
    from tokenizers import normalizers

    lower.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(ConfigError, match=r"the question .* comes back from its ids as 'if"):
        ChatFormat.from_tokenizer(lower)


def test_config_is_checked_when_it_is_built():
    assert build({"prefix": "User:\\n"}, ChatConfig) == ChatConfig(prefix="User:\n")
    for node, message in (
        ({"prefix": ""}, "chat.prefix is empty"),
        ({"date": "yesterday"}, "chat.date='yesterday' is not a date"),
        ({"prefix": "a", "answer_prefix": "b", "system": "c"}, "chat.system has no effect"),
        ({"prefx": "a"}, "did you mean 'prefix'"),
    ):
        with pytest.raises(ConfigError, match=message):
            build(node, ChatConfig)
