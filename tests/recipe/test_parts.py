"""The parts of a run: what decides a stage, which devices it gets, what is read off a log, what a person sees."""

import io
import json
import shutil
import time
from pathlib import Path

import pytest
import yaml

from sq.cli.run import _dry_run
from sq.core.count import clock
from sq.core.errors import ConfigError, LedgerError
from sq.core.ledger import Ledger, Reject, WorkItem
from sq.core.rows import QUESTION
from sq.recipe import devices
from sq.recipe.completed_stages import completed_stages
from sq.recipe.jobs import check
from sq.recipe.load import load_recipe
from sq.recipe.plan import plan
from sq.recipe.process import format_command, tail
from sq.recipe.profile import ProfileConfig
from sq.recipe.progress import ProgressDisplay, shortened
from sq.recipe.record import Status, command_digest, output_digest, read_record, updated_record


@pytest.fixture
def recipe(tmp_path):
    """`recipe({...stages...}, "seed=1")` -> loaded, with everything below tmp_path."""

    def made(stages, *overrides):
        text = {"_target_": "sq.recipe.config.RecipeConfig", "title": "Parts", "stages": stages}
        (tmp_path / "parts.yaml").write_text(yaml.safe_dump(text))
        return load_recipe(str(tmp_path / "parts.yaml"), [f"output_dir={tmp_path / 'out'}", *overrides])

    return made


ROOT = Path(__file__).resolve().parents[2]
SFT = {"sft": {"script": "train", "set": {"stage": "sft", "model": "tiny"}}}
ANSWERS = {"answers": {"script": "synthesize", "set": {"stage": "answers", "input": "domain", "engine": "oracle"}}}


@pytest.mark.parametrize(
    ("stages", "override", "same"),
    [
        (SFT, "sft.trainer.devices=4", True),
        (SFT, "sft.trainer=fsdp", True),
        (SFT, "output_dir=elsewhere", True),
        (SFT, "tracking.experiment=other", True),
        (SFT, "sft.trainer.precision=bf16", False),
        (SFT, "sft.trainer.lora.rank=8", False),
        (SFT, "sft.stage.lr=1e-3", False),
        (SFT, "seed=1", False),
        (ANSWERS, "answers.engine.window=3", True),
        (ANSWERS, "answers.engine.error_rate=0.5", False),
        (ANSWERS, "answers.engine=vllm", False),
        *((ANSWERS, f"answers.{setting}", True) for setting in (
            "engine.max_failures=0.5", "engine.reject_failed=true", "engine.concurrency=9", "engine.attention=eager",
            "stage.judge_engine.window=3", "filters.difficulty.engine.batch_size=2", "filters.duplicates.processes=2",
            "part_size=7", "workers=2", "retry_engine_rejects=true",
        )),
        (ANSWERS, "answers.engine.step_reward=last", False),
        (ANSWERS, "answers.stage.window=3", False),
    ],
)  # fmt: skip
def test_a_digest_knows_what_decides_rows_and_weights(recipe, stages, override, same):
    before, after = recipe(stages).stages[0], recipe(stages, override).stages[0]
    assert (command_digest(before) == command_digest(after)) is same


def test_each_gpu_serves_one_stage_at_a_time(recipe, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(devices, "hardware", lambda: {"cores": "8", "gpus": "A, 80 GiB; A, 80 GiB; A, 80 GiB"})
    jobs = check(recipe(
        {
            "one": {"script": "synthesize", "set": {"stage": "questions", "engine": "vllm"}},
            "two": {"script": "synthesize", "set": {"stage": "answers", "engine.tensor_parallel": 2, "engine": "vllm"}},
            "all": {"script": "train", "set": {"stage": "sft", "trainer": "ddp"}},
            "none": {"script": "synthesize", "set": {"stage": "questions", "engine": "openai"}},
        }
    ).stages)  # fmt: skip
    lent = devices.Devices(4, ProfileConfig())
    assert lent.take("one", jobs["one"]) and lent.take("two", jobs["two"]) and lent.take("none", jobs["none"])
    assert not lent.take("again", jobs["one"]) and not lent.take("all", jobs["all"])
    assert lent.environment("one")["CUDA_VISIBLE_DEVICES"] == "0"
    assert lent.environment("two") | {"OMP_NUM_THREADS": "2"} == lent.environment("two")
    assert (
        lent.environment("two")["CUDA_VISIBLE_DEVICES"] == "1,2"
        and lent.environment("none")["CUDA_VISIBLE_DEVICES"] == ""
    )
    lent.give("one")
    lent.give("two")
    assert lent.take("all", jobs["all"]) and lent.environment("all")["CUDA_VISIBLE_DEVICES"] == "0,1,2"
    assert devices.Devices(1, ProfileConfig()).environment("one") == {}


def test_a_profile_has_no_more_gpus_than_are_here_and_one_stage_has_those_of_a_cluster(recipe, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "hardware", lambda: {"cores": "8", "gpus": "A, 80 GiB; A, 80 GiB"})
    stages = {name: {"script": "synthesize", "set": {"stage": "answers", "input": "domain"}} for name in ("a", "b")}
    stages["api"] = {"script": "synthesize", "set": {"stage": "questions", "engine": "openai"}}
    loaded = recipe(stages, "profile=cluster", "profile.nodes=1", "profile.gpus=8", "set.workers=2")
    jobs = check(loaded.stages)
    lent = devices.Devices(2, loaded.config.profile)
    assert lent.take("a", jobs["a"]) and not lent.take("b", jobs["b"]), "who has which is not known"
    assert lent.take("api", jobs["api"])
    assert "CUDA_VISIBLE_DEVICES" not in lent.environment("a"), "Ray says which"
    two = devices.Devices(2, ProfileConfig(name="one", gpus=1))
    assert two.gpus == ["0"]
    with pytest.raises(ConfigError, match="profile=node is for 8 GPUs, and 2 can be seen here: give profile.gpus=2 or"):
        devices.Devices(1, ProfileConfig(name="node", gpus=8))


@pytest.mark.parametrize(
    ("settings", "words", "refused"),
    [
        ({}, [], ""),
        ({"engine.tensor_parallel": 4}, [], ""),
        ({"engine.tensor_parallel": 2, "workers": 8}, [],
         "stage one: workers=8 need 16 GPUs, 2 each, and profile=node has 8: workers=4, or"),
        ({"engine.tensor_parallel": 16}, [],
         "stage one: an engine takes 16 GPUs, and profile=node has 8: engine.tensor_parallel=8 or less"),
        ({"engine.args": {"pipeline_parallel_size": 2}}, [], "need 16 GPUs, 2 each, and profile=node has 8: workers=4"),
        ({"workers": 4}, ["profile=none", "engine=vllm"], "4 need 4 GPUs, 1 each, and this machine shows 2: workers=2"),
        ({"workers": 4}, ["profile=none", "engine=oracle"], ""),
        ({"workers": 4, "cluster.address": "auto"}, ["profile=none", "engine=vllm"], ""),
        ({"script": "evaluate", "engine.tensor_parallel": 9}, [], "an engine takes 9 GPUs, and profile=node has 8"),
    ],
)  # fmt: skip
def test_more_gpus_than_there_are_is_refused_before_anything_runs(recipe, monkeypatch, settings, words, refused):
    monkeypatch.setattr(devices, "hardware", lambda: {"cores": "8", "gpus": "A, 80 GiB; A, 80 GiB; A, 80 GiB"})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    settings = {"script": "synthesize", **settings}
    script = settings.pop("script")
    asks = {"stage": "answers", "input": "domain"} if script == "synthesize" else {"benchmark": "arithmetic"}
    sets = {**asks, "model": "tiny", "engine": "{engine}", **settings}
    loaded = recipe({"one": {"script": script, "set": sets}}, *(words or ["profile=node"]))
    for checked in (lambda: check(loaded.stages, loaded.config.profile), lambda: plan(loaded)):
        if refused:
            with pytest.raises(ConfigError, match=refused):
                checked()
        else:
            checked()


def test_a_log_is_read_as_it_was_last_seen(tmp_path):
    log = tmp_path / "a.log"
    log.write_bytes(
        b"$ python train.py\n\x1b[1mloading\x1b[0m\n\n 0%|  | 0/9\r 50%|# | 4/9\r100%|##| 9/9\n"
        b"key sk-abcdefgh12345678ijkl\n"
    )
    assert tail(log, 3)[:2] == ["loading", "100%|##| 9/9"] and "sk-abc" not in tail(log, 1)[0]
    assert tail(log, 9, start=18)[0] == "loading" and tail(tmp_path / "none.log", 5) == []


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (
            "answers: 9 questions in -> 45 rows, 0 rejects -> a/b | 95.8% with a final answer | 12 s | next: python x",
            "9 questions in -> 45 rows, 0 rejects | 95.8% with a final answer",
        ),
        ("sft: 24 rows in, 0 rejected -> a/model | loss 1 | 1,203 s | next: y", "24 rows in, 0 rejected | loss 1"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_closing_line_is_kept_without_what_the_recipe_says_itself(line, kept):
    assert shortened(line) == kept


def test_a_terminal_shows_live_lines_and_a_file_has_them_once_a_minute(monkeypatch):
    now, texts = 1000.0, []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for live, waits in ((True, (0.1, 0.2, 0.2, 0.3)), (False, (1, 58, 2, 59))):
        text = io.StringIO()
        display = ProgressDisplay(text, live=live)
        for wait in waits:
            now += wait
            if display.is_due():
                display.draw([f"{now:.1f}", "two"])
        display.print_line("done")
        now, texts = 1000.0, [*texts, text.getvalue()]
    assert texts == ["1000.3\ntwo\n\x1b[2A\x1b[J1000.8\ntwo\n\x1b[2A\x1b[Jdone\n", "1061.0\ntwo\ndone\n"]
    assert [clock(s) for s in (8.2, 185, 7800)] == ["8 s", "3 min 05 s", "2 h 10 min"]


def test_no_secret_reaches_the_record_or_the_log(recipe, monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "very-secret-value-123")
    found = recipe(SFT, "sft.model.path=very-secret-value-123")
    record = updated_record(found, "sq run x")
    found.output_dir.mkdir()
    record.write()
    assert "very-secret" not in (found.output_dir / "recipe.json").read_text()
    assert "very-secret" not in format_command(["python", *found.stages[0].overrides])


def test_a_record_comes_back_as_it_was_and_a_damaged_one_is_told(recipe):
    found = recipe(SFT)
    found.output_dir.mkdir()
    record = updated_record(found, "sq run x")
    record.stages[0].seconds = 3.5
    record.write()
    assert read_record(found.output_dir) == record and updated_record(found, "sq run x") == record
    (found.output_dir / "recipe.json").write_text('{"recipe": "x"}')
    with pytest.raises(LedgerError, match=r"recipe\.json cannot be read .*Delete it"):
        read_record(found.output_dir)


def test_a_training_without_its_end_has_no_output_digest(recipe):
    record = updated_record(recipe({**SFT, **ANSWERS}), "sq run x")
    assert [output_digest(stage) for stage in record.stages] == [None, None]
    directory = Path(record.stages[0].output_dir)
    (directory / "model").mkdir(parents=True)
    (directory / "train.json").write_text('{"config": {}}')
    assert output_digest(record.stages[0]) is None


CHAIN = {
    "labels": {"script": "synthesize", "set": {"stage": "fail_rate", "engine": "oracle"}},
    "answers": {"script": "synthesize", "set": {"stage": "answers", "input": "@labels", "engine": "oracle"}},
}


@pytest.fixture
def done_recipe(recipe):
    """`done_recipe("KEY=VALUE", ...)` -> CHAIN as loaded with these, and its record from when it came to its end."""

    def load(*overrides, reasons=()):
        record = updated_record(recipe(CHAIN), "sq run x")
        for stage in record.stages:
            with Ledger.open(stage.output_dir, schema=QUESTION, config={"stage": stage.name}, inputs={}) as ledger:
                for item in ledger.todo(iter([WorkItem(reason, None) for reason in reasons])):
                    ledger.record(item.key, [], [Reject(row={"id": "q"}, reason=item.key, detail="")])
                ledger.finish()
            stage.status, stage.attempts, stage.output_digest = Status.DONE, 1, output_digest(stage)
        record.stages[1].input_digests = {"labels": record.stages[0].output_digest}
        return recipe(CHAIN, *overrides), record

    return load


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (lambda record: None, {"labels", "answers"}),
        (lambda record: shutil.rmtree(record.stages[1].output_dir), {"labels"}),
        (lambda record: shutil.rmtree(record.stages[0].output_dir), set()),
        (lambda record: record.stages[1].input_digests.update(labels="of other rows"), {"labels"}),
        (lambda record: setattr(record.stages[1], "output_digest", "of other rows"), {"labels"}),
        (lambda record: setattr(record.stages[0], "output_digest", ""), set()),
    ],
)
def test_a_stage_is_done_while_it_and_all_that_it_read_are_as_they_were(done_recipe, change, left):
    loaded, record = done_recipe()
    change(record)
    assert completed_stages(loaded, record, loaded.stages, redo=False) == left
    assert {stage.name for stage in record.stages if stage.status == "done"} == left


@pytest.mark.parametrize(("reasons", "done"), [((), True), (("duplicate",), True), (("duplicate", "engine"), False)])
def test_a_stage_that_is_to_ask_again_for_what_failed_is_done_where_nothing_did(done_recipe, reasons, done):
    loaded, record = done_recipe("labels.retry_engine_rejects=true", reasons=reasons)
    assert ("labels" in completed_stages(loaded, record, loaded.stages, redo=False)) is done
    assert "labels" in completed_stages(*done_recipe(reasons=reasons), loaded.stages, redo=False)


def test_a_stage_with_other_settings_is_refused_or_made_again_with_all_that_read_it(done_recipe):
    loaded, record = done_recipe("labels.stage.n=3", "labels.engine.max_failures=0.5")
    with pytest.raises(
        ConfigError, match=r"labels was made with other settings: stage\.n \(not set there, 3 now\)\. .*--redo"
    ):
        completed_stages(loaded, record, loaded.stages, redo=False)
    assert completed_stages(loaded, record, [], redo=False) == set(), "left as it is until it is asked for"
    record.write()
    with pytest.raises(ConfigError, match="labels was made with other settings"):
        _dry_run(loaded, loaded.stages, redo=False)
    assert all(Path(stage.output_dir).is_dir() for stage in record.stages)
    assert completed_stages(loaded, record, loaded.stages, redo=True) == set()
    assert not any(Path(stage.output_dir).exists() for stage in record.stages)
    assert "stage.n=3" in record.stages[0].overrides and record.stages[1].attempts == 0


def test_what_another_version_has_written_beside_is_passed_over(recipe):
    found = recipe(ANSWERS)
    found.output_dir.mkdir()
    updated_record(found, "sq run").write()
    document = json.loads((found.output_dir / "recipe.json").read_text())
    document["stages"][0] |= {"output_digest": "2", "run_id": "4"}
    (found.output_dir / "recipe.json").write_text(json.dumps(document | {"more": 1}))
    assert [stage.output_digest for stage in read_record(found.output_dir).stages] == ["2"]
