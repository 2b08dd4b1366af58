"""Killed with SIGKILL in the middle and started again, training ends in the same weights, bit for bit on CPU."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from sq.core.errors import ConfigError
from sq.train import export, model, trainer
from sq.train.checkpoints import step_of
from sq.train.fit import fit, prepare
from sq.train.packs import training_packs

ROOT = Path(__file__).parents[2]
SETTINGS = (
    "data.limit=60", "stage.lr=0.01", "stage.epochs=6", "stage.batch_packs=2", "stage.pack_tokens=192",
    "stage.validation=0.1",
    "trainer.checkpoint_every=3", "trainer.keep_checkpoints=2", "trainer.lora.rank=0",
)  # fmt: skip


def weights(output: Path) -> dict[str, object]:
    return load_file(output / "model" / "model.safetensors")


def same(left: Path, right: Path) -> bool:
    ours, theirs = weights(left), weights(right)
    return ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)


def killed_after(command: list[str], checkpoints: Path, count: int) -> None:
    """Start training, wait for its `count`th checkpoint, and kill it."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + 240
    while not any(checkpoints.glob(f"step-{3 * count:08d}.ckpt")):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"no checkpoint came: {process.communicate()[0].decode()[-2000:]}")
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "qpo"])
def test_a_killed_run_ends_in_the_same_weights(stage, command, pairs, tmp_path):
    source = f"data.input={pairs}" if stage == "qpo" else "data.limit=60"
    # Dropout in the adapters draws random numbers in every step.
    extra = ["trainer.lora.rank=4", "trainer.lora.dropout=0.3"] if stage == "sft" else []
    words = [*SETTINGS[1:], source, *extra, "stage.batch_rows=null"]
    killed_after(command(stage, *words), tmp_path / "out" / "checkpoints", 2)
    assert not (tmp_path / "out" / "model").exists()
    again = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *command(stage, *words)], capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert re.search(r"continuing from step [369]", again.stderr), again.stderr
    shutil.move(tmp_path / "out", tmp_path / "killed")
    # In a process of its own as well: what other tests left in this one (threads, vLLM) may change the last bits.
    whole = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *command(stage, *words)], capture_output=True, text=True
    )
    assert whole.returncode == 0, whole.stderr
    assert same(tmp_path / "killed", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("stage.optimizer=adamw_8bit", "trainer.lora.rank=0"),
        ("stage.optimizer=adamw_8bit", "trainer.precision=bf16"),
        ("stage.optimizer=paged_adamw_32bit", "trainer.lora.rank=0"),
        ("trainer.lora.rank=4", "trainer.lora.quantize=true"),
    ],
)
def test_bitsandbytes_goes_on_where_it_was(words, command, tmp_path):
    pytest.importorskip("bitsandbytes", "0.50", reason="bitsandbytes is not installed")
    given = command("qft", *SETTINGS[:-1], *words)
    killed_after(given, tmp_path / "out" / "checkpoints", 2)
    for place in ("killed", "whole"):
        done = subprocess.run([sys.executable, str(ROOT / "train.py"), *given], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert ("continuing from step" in done.stderr) == (place == "killed")
        shutil.move(tmp_path / "out", tmp_path / place)
    assert same(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_processes_killed_together_go_on_together(strategy, command, job, tmp_path):
    words = [*SETTINGS, "trainer.devices=2", f"trainer.strategy={strategy}"]
    killed_after(command("qft", *words), tmp_path / "out" / "checkpoints", 2)
    fit(job("qft", *words))
    shutil.move(tmp_path / "out", tmp_path / "killed")
    fit(job("qft", *SETTINGS))  # on one process: sums are taken in another order
    ours, theirs = weights(tmp_path / "killed"), weights(tmp_path / "out")
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-2, atol=1e-3)


@pytest.mark.slow
def test_a_run_goes_on_as_planned_on_another_number_of_processes(command, job, tmp_path):
    """Begun on two, continued on one and then on two again: the weights of the run that kept its two.

    A step of about 8 rows is two packs on two processes and would be planned as one pack on one. Dropout draws random
    numbers, which belong to a pack and not to the process that has it.
    """
    words = ("data.limit=60", "stage.lr=0.01", "stage.epochs=3", "stage.batch_packs=null", "stage.batch_rows=8",
             "stage.validation=0.1", "trainer.checkpoint_every=3", "trainer.keep_checkpoints=2",
             "trainer.lora.rank=4", "trainer.lora.dropout=0.3", "trainer.strategy=ddp")  # fmt: skip
    out, stopped, whole = (tmp_path / name for name in ("out", "stopped", "whole"))
    killed_after(command("qft", *words, "trainer.devices=2"), out / "checkpoints", 1)
    assert json.loads((out / "train.json").read_text())["plan"]["packs_per_step"] == 2
    shutil.copytree(out, stopped)
    fit(job("qft", *words, "trainer.devices=2"))
    shutil.move(out, whole)
    shutil.move(stopped, out)
    killed_after(command("qft", *words, "trainer.devices=1"), out / "checkpoints", 3)
    fit(job("qft", *words, "trainer.devices=2"))
    ours, theirs = weights(out), weights(whole)
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-2, atol=1e-3)
    told, kept = (json.loads((place / "train.json").read_text()) for place in (out, whole))
    assert told["plan"] == kept["plan"] and told["tokens"] == kept["tokens"]
    assert told["figures"]["val/loss"] == pytest.approx(kept["figures"]["val/loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer.devices=3"], r"trainer\.devices=3: .* planned for 1, and its steps of 4 packs cannot be shared "
         r"evenly by 3 processes\. Set trainer\.devices to 1 or 2 or 4, or start again in another output_dir="),
        (["trainer.devices=3", "trainer.nodes=2"], r"trainer\.devices=3 with trainer\.nodes=2: .* by 6 processes\. Set "
         r"trainer\.devices to 1 or 2, or"),
        (["trainer.devices=2", "trainer.strategy=deepspeed"], r"DeepSpeed's checkpoints cannot be read by 2 .*\. "
         r"Set trainer\.devices to 1, or"),
    ],
)  # fmt: skip
def test_processes_that_cannot_follow_the_plan_are_refused(words, message, job, monkeypatch):
    given = ("data.limit=20", "stage.epochs=4", "stage.validation=0", "trainer.checkpoint_every=2")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(trainer.Checkpoints, "_prune", lambda self: signal.raise_signal(signal.SIGINT))
        fit(job("qft", *given))
    monkeypatch.setenv("LOCAL_RANK", "0")  # as if a launcher had started the others
    monkeypatch.setattr(model, "strategy", lambda trainer: None)  # and DeepSpeed were installed
    with pytest.raises(ConfigError, match=message):
        fit(job("qft", *given, *words))


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
    monkeypatch.setattr(model, "strategy", lambda trainer: None)  # as if DeepSpeed were installed
    with pytest.raises(ConfigError, match=message):
        fit(job("qft", *given, f"trainer.strategy={now}"))


def test_a_plan_is_followed_by_another_number_of_processes(job):
    """A step of about 8 rows is two packs on two processes; planned on one it would be one."""
    made = job("qft", "stage.batch_packs=null", "stage.batch_rows=8", "stage.validation=0")
    given, loss = prepare(made), SimpleNamespace(keep_last=False, divisor=len)
    planned = partial(training_packs, given.reader.read(given.cache), made.stage, loss, prefix=0, seed=0)
    two, one = (planned(world=world, record=None) for world in (2, 1))
    followed = planned(world=1, record=two.plan.record())
    assert followed.plan.packing.packs == two.plan.packing.packs != one.plan.packing.packs
    assert (followed.train.steps, followed.plan.batch_packs) == (two.train.steps, 2)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_all_processes_and_the_same_command_goes_on(number, command, tmp_path):
    """Told to the first one only, in the midst of a step, when the other will wait for it."""
    given = [sys.executable, str(ROOT / "train.py"), *command("qft", *SETTINGS, "trainer.devices=2")]
    process = subprocess.Popen(given, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "out" / "checkpoints").glob("step-*.ckpt")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(number)
    said = process.communicate()[1]
    assert process.returncode == 130 and said.endswith("stopped. The same command continues where it was.\n")
    done = subprocess.run(given, capture_output=True, text=True)
    assert done.returncode == 0 and "continuing from step" in done.stderr, done.stderr


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


def test_sigterm_saves_and_the_same_command_ends_in_the_same_weights(job, stops, tmp_path, monkeypatch):
    whole = fit(job("qft", *SETTINGS, f"output_dir={tmp_path / 'whole'}")).parent
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stops(signal.SIGTERM, 4)
        steps = saved(patched)
        fit(job("qft", *SETTINGS))
    assert steps == [3, 4]
    monkeypatch.undo()
    fit(job("qft", *SETTINGS))
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


@pytest.mark.slow
def test_shards_of_two_processes_go_on_in_one(command, job, tmp_path):
    """SIGTERM to the first of two, which both save; FSDP's shards are read by one process, and go nowhere else."""
    words = [*SETTINGS, "trainer.strategy=fsdp", "trainer.checkpoint_every=500", "trainer.export=best"]
    given = [sys.executable, str(ROOT / "train.py"), *command("qft", *words, "trainer.devices=2")]
    process = subprocess.Popen(given, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "out" / "train.json").exists() or "1/" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 130
    (shards,) = (tmp_path / "out" / "checkpoints").glob("step-*.ckpt")
    assert len(list(shards.glob("*.distcp"))) == 2
    with pytest.raises(
        ConfigError, match=r"trainer\.strategy=auto: .* is in shards.*go on with trainer\.strategy=fsdp"
    ):
        fit(job("qft", *SETTINGS, "trainer.export=best"))
    fit(job("qft", *words, "trainer.devices=1"))
    shutil.move(tmp_path / "out", tmp_path / "stopped")
    fit(job("qft", *words, "trainer.devices=2"))
    ours, theirs = weights(tmp_path / "stopped"), weights(tmp_path / "out")
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-2, atol=1e-3)


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
    fit(job("qft", "data.limit=24", *words))
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
