"""The Hugging Face engine, for real, on small Llamas with random weights."""

import math
from dataclasses import replace
from itertools import islice

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from sq.core.errors import ConfigError, EngineError
from sq.engine import hf, hf_decode
from sq.engine.base import Request, Sampling
from sq.engine.hf import HFConfig
from sq.models.load import ModelConfig

pytestmark = pytest.mark.usefixtures("one_thread")
GREEDY = Sampling(temperature=0.0, max_tokens=8)


@pytest.fixture(scope="module")
def engine(model):
    engine = HFConfig(device="cpu", window=16, batch_size=5).create(model)
    yield engine
    engine.close()
    engine.close()


def requests(count, **sampling):
    for i in range(count):
        prompt = tuple(5 + (7 * i + j) % 90 for j in range(3 + i % 7))
        settings = Sampling(**{"max_tokens": 4 + i % 9, **sampling})
        yield Request(key=f"r{i}", seed=200 + i, prompt_ids=prompt, sampling=settings)


def ids_of(results):
    return {r.key: [c.token_ids for c in r.completions] for r in results}


def test_greedy_texts_are_those_of_generate_alone_and_in_a_batch(engine, model):
    asked = list(requests(14, temperature=0.0))
    together = ids_of(engine.generate(asked))
    assert together == {r.key: ids_of(engine.generate([r]))[r.key] for r in asked}
    plain = LlamaForCausalLM.from_pretrained(model.path)
    for r in asked:
        prompt = torch.tensor([r.prompt_ids])
        out = plain.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=r.sampling.max_tokens
        )
        assert together[r.key] == [tuple(out[0, len(r.prompt_ids) :].tolist())]
    assert len({t[0] for t in together.values()}) > 10


@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_a_text_depends_on_its_seed_alone_not_on_its_company(engine, top_p):
    asked = list(requests(14, n=2, top_p=top_p, temperature=0.8))
    together = ids_of(engine.generate(asked))
    assert together == ids_of(engine.generate(reversed(asked)))
    assert together == {r.key: ids_of(engine.generate([r]))[r.key] for r in asked}
    assert all(len(set(texts)) == 2 for texts in together.values())


def test_the_first_completions_do_not_depend_on_how_many_are_asked(engine):
    few, many = (ids_of(engine.generate(requests(3, n=n))) for n in (2, 7))
    assert all(many[key][:2] == few[key] and len(many[key]) == 7 for key in few)


def test_tokens_are_drawn_as_the_model_says():
    logits = torch.randn(1, 40, generator=torch.Generator().manual_seed(0)) * 2
    counts = torch.zeros(40)
    rows = [row(seed, temperature=0.7, top_k=9) for seed in range(4000)]
    for token in hf_decode.choose(logits.repeat(4000, 1), rows):
        counts[token] += 1
    wanted = logits[0] / 0.7
    wanted[wanted < wanted.topk(9).values[-1]] = -math.inf
    assert (counts / 4000 - wanted.softmax(-1)).abs().max() < 0.03
    assert ((counts > 0) <= wanted.isfinite()).all()


def test_every_bit_of_a_seed_decides():
    """Torch's generator on a CPU takes 32 bits: seeds that were the same to it are told apart."""
    draws = []
    for seed in (3018, 72091):
        asked = row(seed)
        for _ in range(20):
            asked.take(hf_decode.choose(torch.zeros(1, 1000), [asked])[0])
        draws.append(asked.ids)
    assert draws[0] != draws[1]


def test_top_p_leaves_only_the_nucleus_and_a_low_temperature_is_greedy():
    logits = torch.tensor([[3.0, 2.9, 0.0, -1.0]])
    drawn = hf_decode.choose(logits.repeat(200, 1), [row(seed, top_p=0.8) for seed in range(200)])
    assert set(drawn) == {0, 1}
    assert set(hf_decode.choose(logits.repeat(9, 1), [row(s, temperature=1e-9) for s in range(9)])) == {0}


def row(seed, **sampling):
    return hf_decode.PartialCompletion(
        prompt=(1,), sampling=Sampling(**sampling), seed=seed, index=0, limit=9, stops=frozenset()
    )


def test_a_stop_text_ends_its_own_answer_and_is_no_part_of_it(engine):
    asked = list(requests(4, temperature=0.0))
    whole = {r.key: r.completions[0] for r in engine.generate(asked)}
    text = whole["r3"].text
    stop = text[len(text) // 2 :][:2]
    stopped = [replace(r, stop=("never", stop)) if r.key == "r3" else r for r in asked]
    cut = {r.key: r.completions[0] for r in engine.generate(stopped)}
    assert cut["r3"].finish_reason == "stop" and cut["r3"].text == text[: text.index(stop)]
    assert cut["r3"].tokens < whole["r3"].tokens
    assert all(cut[key] == whole[key] for key in ("r0", "r1", "r2")), "the texts beside it go on"


def test_a_stop_id_ends_the_text_is_told_and_is_no_part_of_it(engine, monkeypatch):
    greedy = next(engine.generate(requests(1, temperature=0.0, max_tokens=8))).completions[0]
    assert greedy.finish_reason == "length" and greedy.tokens == 8
    stop = greedy.token_ids[3]
    cut = next(engine.generate(requests(1, temperature=0.0, max_tokens=8, stop_token_ids=(stop,)))).completions[0]
    assert cut.finish_reason == "stop" and cut.token_ids == greedy.token_ids[: greedy.token_ids.index(stop) + 1]
    decode = AutoTokenizer.from_pretrained(engine.model.path).decode
    assert cut.text == decode(cut.token_ids[:-1]).rstrip("\ufffd")
    monkeypatch.setattr(engine._loaded.generation_config, "eos_token_id", [0, stop])
    (own,) = next(engine.generate(requests(1, temperature=0.0, max_tokens=8))).completions
    assert own == cut  # what ends every text of the model


def test_a_bad_request_is_a_result_with_an_error_and_the_rest_goes_on(engine):
    ids = {"prompt_ids": (5, 6)}
    bad = {
        "long": Request(key="long", seed=0, prompt_ids=(7,) * 1024, sampling=Sampling()),
        "empty": Request(key="empty", seed=0, prompt_ids=(), sampling=Sampling()),
        "id": Request(key="id", seed=0, prompt_ids=(5, 999_999), sampling=Sampling()),
        "below": Request(key="below", seed=0, prompt_ids=(-1,), sampling=Sampling()),
        "none": Request(key="none", seed=0, sampling=Sampling()),
        "role": Request(key="role", seed=0, messages=({"text": "hello"},), sampling=Sampling(max_tokens=4)),
        "top-p": Request(key="top-p", seed=0, sampling=Sampling(top_p=7.0), **ids),
        "n": Request(key="n", seed=0, sampling=Sampling(n=0), **ids),
        "nan": Request(key="nan", seed=0, sampling=Sampling(temperature=math.nan), **ids),
        "tokens": Request(key="tokens", seed=0, sampling=Sampling(max_tokens=0), **ids),
    }
    results = list(engine.generate([*islice(bad.values(), 5), *requests(3), *islice(bad.values(), 5, None)]))
    assert len(results) == len(bad) + 3
    by_key = {r.key: r for r in results}
    assert "1024 tokens, and the model's context 1024" in by_key["long"].error
    assert "999999 is not in the model's vocabulary of 1024" in by_key["id"].error
    assert all(by_key[key].error or key == "role" for key in bad)
    assert {key for key in bad if by_key[key].refused} >= {"long", "empty", "id", "below"}
    assert not any(by_key[key].refused for key in ("none", "top-p", "n", "nan", "tokens")), "wrong for every prompt"
    assert all(by_key[f"r{i}"].completions for i in range(3))


def test_a_prompt_that_fills_the_context_gets_what_room_is_left(engine):
    asked = Request(key="a", seed=0, prompt_ids=(7,) * 1021, sampling=Sampling(max_tokens=50))
    (result,) = engine.generate([asked])
    assert result.completions[0].tokens == 3 and result.completions[0].finish_reason == "length"


def test_the_source_is_read_a_window_at_a_time_and_may_be_left(engine):
    taken = []

    def source():
        for request in requests(50):
            taken.append(request.key)
            yield request

    results = engine.generate(source())
    next(results)
    assert len(taken) == 16
    results.close()
    assert len(list(engine.generate(requests(2)))) == 2


def test_messages_are_rendered_by_the_chat_template(engine):
    message = ({"role": "user", "content": "What is 2 + 3?"},)
    (result,) = engine.generate([Request(key="m", seed=0, messages=message, sampling=GREEDY)])
    assert result.prompt_tokens > 6 and result.completions[0].tokens > 0


def test_where_memory_does_not_suffice_fewer_are_decoded_at_once(model, monkeypatch, caplog):
    engine = HFConfig(device="cpu", batch_size=16).create(model)
    asked = [*requests(12), Request(key="huge", seed=0, prompt_ids=(7,) * 40, sampling=GREEDY)]
    wanted = ids_of(engine.generate(asked))
    sizes = []

    def tight(loaded, rows, decode=hf_decode.decode):
        sizes.append(len(rows))
        if len(rows) > 3 or any(len(r.prompt) == 40 for r in rows):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        decode(loaded, rows)

    monkeypatch.setattr(hf_decode, "decode", tight)
    monkeypatch.setattr(hf, "_free", lambda: None)  # collecting garbage takes long here
    results = {r.key: r for r in engine.generate(asked)}
    huge = results.pop("huge")
    assert "out of memory for this request alone" in huge.error and not huge.refused
    assert ids_of(results.values()) == {key: ids for key, ids in wanted.items() if key != "huge"}
    assert "do not fit into memory together; going on with" in caplog.text and max(sizes[-3:]) <= 3


def test_numbers_that_overflow_are_an_error_not_a_text(model):
    engine = HFConfig(device="cpu").create(model)
    with torch.no_grad():
        engine._loaded.lm_head.weight.fill_(math.nan)
    (result,) = engine.generate(requests(1))
    assert "overflowed (NaN or infinity). Use engine.dtype=float32" in result.error


def test_what_is_not_there_is_named(model):
    with pytest.raises(EngineError, match=r"engine.device='cuda:9' is not on this machine.*Use auto or cpu"):
        HFConfig(device="cuda:9").create(model)
    with pytest.raises(EngineError, match="max_model_len=4096: the context of model lively has 1024 tokens"):
        HFConfig(device="cpu", max_model_len=4096).create(model)
    with pytest.raises(ConfigError, match="config cannot be loaded from"):
        HFConfig(device="cpu").create(ModelConfig(name="x", path=str(hf.__file__).replace("hf.py", "")))


def test_a_closed_engine_says_so(model):
    engine = HFConfig(device="cpu").create(model)
    engine.close()
    with pytest.raises(EngineError, match="the engine of model lively is closed"):
        list(engine.generate(requests(1)))
