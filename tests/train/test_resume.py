"""Killed with SIGKILL in the middle and started again, training ends in the same weights, bit for bit on CPU."""

import json
import re
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from forked_command import run
from resumed import SETTINGS, killed_after, same, weights

from sq.core.errors import ConfigError
from sq.train import export, hardware, model, trainer
from sq.train.checkpoints import step_of
from sq.train.fit import fit


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "qpo"])
def test_a_killed_run_ends_in_the_same_weights(stage, command, pairs, tmp_path):
    source = f"data.input={pairs}" if stage == "qpo" else "data.limit=60"
    # Dropout in the adapters draws random numbers in every step.
    extra = ["trainer.lora.rank=4", "trainer.lora.dropout=0.3"] if stage == "sft" else []
    words = [*SETTINGS[1:], source, *extra, "stage.batch_rows=null"]
    killed_after(command(stage, *words), tmp_path / "out" / "checkpoints", 2)
    assert not (tmp_path / "out" / "model").exists()
    # Not in this process: what other tests left in it (threads, vLLM) may change the last bits.
    given = command(stage, *words)
    done, whole = run("train.py", given), run("train.py", [*given, f"output_dir={tmp_path / 'whole'}"])
    assert done.returncode == 0 and len(re.findall(r"continuing from step [369]", done.stderr)) == 1, done.stderr
    assert whole.returncode == 0, whole.stderr
    assert same(tmp_path / "out", tmp_path / "whole")


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ("auto", "fsdp", r"trainer\.strategy=fsdp: .*step-00000002\.ckpt, .* is whole; go on with trainer\.strategy=aut"
         r"o or ddp, or start again in another output_dir="),
        ("ddp", "deepspeed", r"trainer\.strategy=deepspeed: .* is whole; go on with trainer\.strategy=auto or ddp"),
        ("fsdp", "ddp", r"trainer\.strategy=ddp: .* is in shards; go on with trainer\.strategy=fsdp, or"),
        ("fsdp", "deepspeed", r"trainer\.strategy=deepspeed: .* is in shards; go on with trainer\.strategy=fsdp, or"),
    ],
)  # fmt: skip
def test_a_strategy_that_cannot_read_the_checkpoint_is_refused_before_weights_are_loaded(
    before, now, message, job, monkeypatch
):
    given = ("data.limit=20", "stage.epochs=4", "stage.validation=0", "trainer.checkpoint_every=2")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(trainer.Checkpoints, "_prune", lambda self: signal.raise_signal(signal.SIGINT))
        fit(job("qft", *given, f"trainer.strategy={before}"))
    monkeypatch.setattr(model, "load_model", lambda *args, **more: pytest.fail("weights are loaded"))
    monkeypatch.setattr(hardware, "deepspeed_strategy", lambda: None)  # as if DeepSpeed were installed
    with pytest.raises(ConfigError, match=message):
        fit(job("qft", *given, f"trainer.strategy={now}"))


@pytest.fixture
def stops(monkeypatch):
    """Send this process a signal in the midst of training, after the given step; SIGTERM ends as it does in `sq`."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    own = trainer.TrainingProgress.on_train_batch_end

    def send(number, step):
        def sending(self, lightning, *args):
            own(self, lightning, *args)
            if lightning.global_step == step and lightning.fit_loop.epoch_loop.batch_idx == 2 * step - 1:
                signal.raise_signal(number)

        monkeypatch.setattr(trainer.TrainingProgress, "on_train_batch_end", sending)

    yield send
    signal.signal(signal.SIGTERM, before)


def saved(monkeypatch):
    """The steps after which a checkpoint was written, as it goes on."""
    steps, own = [], trainer.Checkpoints._note_best

    def noted(self, name, loss):
        own(self, name, loss)
        steps.append(step_of(Path(name)))

    monkeypatch.setattr(trainer.Checkpoints, "_note_best", noted)
    return steps


@pytest.mark.parametrize(
    "words",
    [
        (),
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in (
                ("stage.optimizer=adamw_8bit",),
                ("stage.optimizer=adamw_8bit", "trainer.precision=bf16"),
                ("stage.optimizer=paged_adamw_32bit",),
                ("trainer.lora.rank=4", "trainer.lora.quantize=true"),
            )
        ),
    ],
)
def test_sigterm_saves_and_the_same_command_ends_in_the_same_weights(words, job, stops, tmp_path, monkeypatch):
    if words:
        pytest.importorskip("bitsandbytes", "0.50", reason="bitsandbytes is not installed")
    given = (*SETTINGS, *words)
    whole = fit(job("qft", *given, f"output_dir={tmp_path / 'whole'}")).parent
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stops(signal.SIGTERM, 4)
        steps = saved(patched)
        fit(job("qft", *given))
    assert steps == [3, 4]
    monkeypatch.undo()
    fit(job("qft", *given))
    assert same(tmp_path / "out", whole)
    ours, theirs = (json.loads((place / "train.json").read_text())["figures"] for place in (tmp_path / "out", whole))
    assert ours["val/loss_before"] == theirs["val/loss_before"]


@pytest.mark.parametrize("moment", ["the last step", "validation", "export"])
@pytest.mark.parametrize("strategy", ["auto", "fsdp"])
def test_sigterm_at_the_end_saves_and_the_same_command_ends_as_a_whole_run(
    moment, strategy, job, stops, tmp_path, monkeypatch
):
    words = ("data.limit=24", "stage.max_steps=2", "stage.batch_packs=2", "stage.validation=0.2", "stage.epochs=4",
             f"trainer.strategy={strategy}")  # fmt: skip
    whole = fit(job("qft", *words, f"output_dir={tmp_path / 'whole'}")).parent

    def stopping(own, *args, **kwargs):
        if moment == "export" or args[0].global_step == 2:
            signal.raise_signal(signal.SIGTERM)
        return own(*args, **kwargs)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        if moment == "the last step":
            stops(signal.SIGTERM, 2)
        owner, name = (trainer, "validate") if moment == "validation" else (export, "write_model")
        if moment != "the last step":
            patched.setattr(owner, name, partial(stopping, getattr(owner, name)))
        fit(job("qft", *words))
    monkeypatch.undo()
    assert [p.name for p in (tmp_path / "out" / "checkpoints").glob("step-*")] == ["step-00000002.ckpt"]
    fit(job("qft", *words))
    torch.testing.assert_close(weights(tmp_path / "out"), weights(whole), rtol=1e-5, atol=1e-7)
    ours, theirs = (json.loads((place / "train.json").read_text())["figures"] for place in (tmp_path / "out", whole))
    rate = {"train/tokens_per_s": 0}
    assert ours | rate == pytest.approx(theirs | rate, rel=1e-6)


def test_sigusr1_asks_for_a_checkpoint_and_training_goes_on(job, stops, monkeypatch):
    stops(signal.SIGUSR1, 4)
    steps, handler = saved(monkeypatch), signal.getsignal(signal.SIGUSR1)
    fit(job("qft", *SETTINGS, "stage.max_steps=5"))
    assert steps == [3, 4]
    assert signal.getsignal(signal.SIGUSR1) == handler


def test_checkpoints_come_by_time_where_steps_are_long(job, monkeypatch):
    steps = saved(monkeypatch)
    fit(job("qft", *SETTINGS, "trainer.checkpoint_every=500", "trainer.checkpoint_minutes=1e-9", "stage.max_steps=4"))
    assert steps == [1, 2, 3]


@pytest.mark.parametrize(("left_by", "strategy"), [("fsdp", "auto"), ("auto", "fsdp")])
def test_what_a_kill_left_of_a_checkpoint_is_in_no_strategys_way(left_by, strategy, job, tmp_path, monkeypatch):
    left, final = (
        tmp_path / "out" / "checkpoints" / f"{name}-00000001.{end}"
        for name, end in ((".step", "tmp"), ("step", "ckpt"))
    )
    left.parent.mkdir(parents=True)
    left.mkdir() if left_by == "fsdp" else left.write_bytes(b"half")
    kinds, own = [], trainer.Checkpoints._prune
    monkeypatch.setattr(trainer.Checkpoints, "_prune", lambda self: (own(self), kinds.append(final.is_dir())))
    words = ("stage.max_steps=2", "trainer.checkpoint_every=1", f"trainer.strategy={strategy}")
    fit(job("qft", "data.limit=60", *words))
    assert kinds == [strategy == "fsdp"]


def test_a_finished_run_is_not_run_again_and_another_one_is_refused(job, tmp_path):
    words = ("data.limit=12", "stage.max_steps=2", "stage.lr=0.01")
    model = fit(job("qft", *words))
    before = (model / "model.safetensors").stat().st_mtime_ns
    assert fit(job("qft", *words, "trainer.log_every=7", "trainer.checkpoint_every=9")) == model
    assert (model / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match=r"another configuration: .*stage\.lr \(0\.01 there, 0\.02 now\)"):
        fit(job("qft", "data.limit=12", "stage.max_steps=2", "stage.lr=0.02"))
    assert json.loads((tmp_path / "out" / "train.json").read_text())["figures"]["train/loss"] > 0


def test_changed_rows_under_the_same_name_are_refused(job, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"question": f"What is {i} + 1?"}) + "\n" for i in range(9)))
    words = (f"data.input={file}", "stage.max_steps=1", "stage.validation=0")
    fit(job("qft", *words))
    file.write_text(file.read_text().replace("What", "How much"))
    with pytest.raises(ConfigError, match=r"data \(content\)"):
        fit(job("qft", *words))


def test_the_last_checkpoints_and_the_best_stay_while_it_runs(job, tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(
        trainer.Checkpoints,
        "_prune",
        lambda self, own=trainer.Checkpoints._prune: (
            own(self),
            kept.append(sorted(p.name for p in self.directory.iterdir())),
        ),
    )
    made = job("qft", *SETTINGS, "trainer.export=best")
    fit(made)
    assert kept[-1][-2:] == [
        f"step-{n:08d}.ckpt" for n in sorted(int(name[5:13]) for name in kept[-1] if name.startswith("step"))[-2:]
    ]
    assert all("best.json" in names and 1 <= sum(n.startswith("step-") for n in names) <= 3 for names in kept)
    assert not any(".tmp" in name for names in kept for name in names)
