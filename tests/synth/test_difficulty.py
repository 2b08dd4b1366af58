"""The difficulty filter: a scorer behind an engine, never beside the judge's; thresholds, targets, scores kept."""

import json
import os

import pytest
import reward_models
from forked_workers import fork_workers

from sq.core.chat import ChatFormat
from sq.core.errors import DirectoryError, EngineError
from sq.core.ledger import read_rejects, read_rows
from sq.domains.oracle import OracleConfig
from sq.engine.base import ScoreResult
from sq.engine.hf import HFConfig
from sq.engine.vllm import VLLMConfig
from sq.models.load import ModelConfig
from sq.synth.filters.models import FilterModels

THRESHOLD = "filters.difficulty.threshold=0.5"


@pytest.fixture
def questions(tmp_path):
    def write(count):
        path = tmp_path / "q.jsonl"
        lines = (json.dumps({"question": f"What comes after {i % 100}?"}) for i in range(0, 2 * count, 2))
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    return write


@pytest.fixture
def chain(run, tmp_path):
    def done(file, *more, to, filters="difficulty"):
        return run("filter", f"filters=[{filters}]", f"input={file}", f"stage.scores={tmp_path / 's'}", *more, to=to)

    return done


@pytest.fixture
def scorer(random_tiny, tmp_path):
    """A regressor with random weights, in the place that the filter is given."""
    model = reward_models.make("LlamaForSequenceClassification", random_tiny, tmp_path / "scorer")
    model.chat = ChatFormat.from_tokenizer(model.tokenizer, model.config.chat)
    note = {"bias": 0.25, "chat": model.chat.record()}
    (tmp_path / "scorer" / "regressor.json").write_text(json.dumps(note))
    model.setting = f"filters.difficulty.model={{name: scorer, path: '{tmp_path}/scorer', dtype: fp32}}"
    return model


class Hundredths:
    """A question's last number, in hundredths."""

    def __init__(self, asked):
        self.asked = asked

    def score(self, requests):
        for request in requests:
            text = request.messages[0]["content"]
            self.asked.append(text)
            yield ScoreResult(key=request.key, score=int(text.split()[-1].strip("?")) / 100, tokens=3)

    def close(self):
        pass


@pytest.fixture
def asked(monkeypatch):
    asked = []
    monkeypatch.setattr(HFConfig, "create", lambda self, model: Hundredths(asked))
    return asked


def plain(scorer, text):
    return scorer.numbers(scorer.chat.question_ids(text).ids)[-1, 0].item() + 0.25


def test_difficulties_are_those_of_a_plain_forward_pass(chain, questions, scorer, tmp_path):
    wanted = {text: plain(scorer, text) for text in (f"What comes after {2 * i}?" for i in range(30))}
    middle = sum(sorted(wanted.values())[14:16]) / 2
    metrics = chain(questions(30), scorer.setting, f"filters.difficulty.threshold={middle}", to="f")
    rows = [*read_rows(tmp_path / "f"), *(json.loads(r["row"]) for r in read_rejects(tmp_path / "f"))]
    assert {row["question"]: row["difficulty"] for row in rows} == pytest.approx(wanted, abs=1e-3)
    assert metrics["rows"] == metrics["rejects/too_easy"] == 15
    assert metrics["usage/scored"] == 30 and metrics["usage/scored_tokens"] > 30


def test_the_scorer_has_nothing_that_was_set_for_the_judges_model(scorer, tmp_path, monkeypatch):
    monkeypatch.setattr(VLLMConfig, "prepare", lambda config: None)
    (tmp_path / "adapter_config.json").write_text('{"r": 4}')
    (tmp_path / "adapter_model.safetensors").write_text("weights")
    args = {"speculative_config": {"method": "ngram"}, "kv_cache_dtype": "fp8", "max_num_batched_tokens": 4096}
    more = {"quantization": "fp8", "lora": str(tmp_path), "args": args, "max_model_len": 1 << 20}
    judge, own = ModelConfig(name="tiny", path="package:tiny"), VLLMConfig(quantization="fp8")

    def fields(engine, given=None):
        return FilterModels(judge, engine).scorer(scorer.config, given).scoring_fields

    assert fields(VLLMConfig(**more)) == fields(VLLMConfig())
    assert fields(VLLMConfig(max_model_len=64))["engine.max_model_len"] == 64
    assert VLLMConfig(**more).for_another(judge).args == {"max_num_batched_tokens": 4096}
    assert fields(VLLMConfig(**more), own) == own.fingerprint_fields(scorer.config) | {
        "model": own.identity(scorer.config)
    }


def test_by_threshold_and_to_a_target(chain, questions, scorer, asked, tmp_path):
    file = questions(150)
    metrics = chain(file, scorer.setting, THRESHOLD, to="a")
    assert metrics["rows"] == 75 and metrics["rejects/too_easy"] == 75
    again = chain(file, scorer.setting, THRESHOLD, to="again")
    assert (metrics["usage/scored"], again["usage/stored"], again["usage/scored"]) == (50, 150, 0)
    target = ["filters.difficulty.threshold=null", "filters.difficulty.target=[1,3]"]
    metrics = chain(file, scorer.setting, *target, to="b")
    assert metrics["rows"] == 100 and metrics["rejects/sampled_out"] == 50
    assert len(asked) == 50  # one score for each distinct text, over both runs
    assert chain(file, scorer.setting, *target, "seed=1", to="drawn")["rejects/sampled_out"] == 50
    b, c = ([row["id"] for row in read_rows(tmp_path / to)] for to in ("b", "drawn"))
    assert len(b) == len(c) == 100 and b != c
    in_bf16 = [scorer.setting, "+engine@filters.difficulty.engine=hf", "++filters.difficulty.engine.dtype=bfloat16"]
    chain(file, *in_bf16, THRESHOLD, to="c")
    assert len(asked) == 100, "a score in fp32 is none in bf16"
    with pytest.raises(
        DirectoryError, match=r'filters.difficulty.scorer.engine.dtype: "float32" there, "bfloat16" now'
    ):
        chain(file, *in_bf16, THRESHOLD, to="a")


@pytest.mark.parametrize("filters", ["solvability,difficulty", "difficulty,solvability"])
def test_judge_and_scorer_never_have_an_engine_at_once(chain, scorer, filters, monkeypatch):
    events = []

    def watched(kind):
        create = kind.create

        def made(self, model=None):
            events.append(f"{kind.__name__} starts")
            engine = create(self, model)
            close = engine.close
            engine.close = lambda: (events.append(f"{kind.__name__} ends"), close())
            return engine

        monkeypatch.setattr(kind, "create", made)

    for kind in (OracleConfig, HFConfig):
        watched(kind)
    every = "filters.difficulty.threshold=-9"
    assert chain("domain", "limit=40", scorer.setting, every, to="f", filters=filters)["rows"] == 40
    names = {"solvability": "OracleConfig", "difficulty": "HFConfig"}
    order = [names[name] for name in filters.split(",")]
    assert events == [f"{name} {what}" for name in order for what in ("starts", "ends")]


def test_no_worker_has_two_models_at_once_and_each_loads_them_once(chain, scorer, monkeypatch, tmp_path):
    """Each process writes what starts and ends; its share of the rows goes through one model, then the other."""
    fork_workers(monkeypatch)
    monkeypatch.setattr("sq.synth.places.AHEAD", 1)
    events = tmp_path / "events"

    def write(what):
        with events.open("a") as file:
            file.write(f"{os.getpid()} {what}\n")

    class Watched(Hundredths):
        def score(self, requests):
            return (ScoreResult(key=request.key, score=0.5, tokens=3) for request in requests)

        def close(self):
            write("scorer ends")

    def score(config, model):
        write("scorer starts")
        return Watched([])

    create = OracleConfig.create

    def judge(config, model=None):
        write("judge starts")
        engine = create(config, model)
        engine.close = lambda: write("judge ends")
        return engine

    monkeypatch.setattr(HFConfig, "create", score)
    monkeypatch.setattr(OracleConfig, "create", judge)
    given = [scorer.setting, "filters.difficulty.threshold=0", "limit=160", "part_size=8", "workers=2"]
    assert chain("domain", *given, to="f", filters="solvability,difficulty")["rows"] == 160
    of: dict[str, list[str]] = {}
    for line in events.read_text().splitlines():
        of.setdefault(line.partition(" ")[0], []).append(line.partition(" ")[2])
    once = ["judge starts", "judge ends", "scorer starts", "scorer ends"]
    assert all(own == once * (len(own) // 4) for own in of.values()) and sum(map(len, of.values())) <= 3 * 4
    assert str(os.getpid()) not in of


def test_numbers_that_overflow_are_not_kept(chain, questions, scorer, tmp_path):
    note = json.loads((tmp_path / "scorer" / "regressor.json").read_text())
    (tmp_path / "scorer" / "regressor.json").write_text(json.dumps(note | {"bias": float("nan")}))
    with pytest.raises(EngineError, match="(?s)requests failed.*numbers overflowed"):
        chain(questions(30), scorer.setting, THRESHOLD, to="f")
    (store,) = (tmp_path / "s").glob("difficulty-*/scores.jsonl")
    assert store.read_bytes() == b""
