"""Trainings of several processes that are stopped: they go on together, on fewer or on more."""

import json
import shutil
import signal
import time
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from forked_command import ForkedCommand, run
from resumed import SETTINGS, killed_after, weights

from sq.core.errors import ConfigError
from sq.core.progress import read_progress
from sq.train import hardware, trainer
from sq.train.fit import fit, prepare
from sq.train.packs import training_packs

pytestmark = pytest.mark.usefixtures("forked_ranks")


@pytest.mark.slow
def test_processes_killed_together_go_on_together(command, job, tmp_path):
    """By FSDP; by DDP the next test does it."""
    words = [*SETTINGS, "trainer.devices=2", "trainer.strategy=fsdp"]
    killed_after(command("qft", *words), tmp_path / "out" / "checkpoints", 2)
    job("qft", *words).run()
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
    job("qft", *words, "trainer.devices=2").run()
    shutil.move(out, whole)
    shutil.move(stopped, out)
    killed_after(command("qft", *words, "trainer.devices=1"), out / "checkpoints", 3)
    job("qft", *words, "trainer.devices=2").run()
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
    given = ("data.limit=60", "stage.epochs=4", "stage.validation=0", "trainer.checkpoint_every=2")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(trainer.Checkpoints, "_prune", lambda self: signal.raise_signal(signal.SIGINT))
        fit(job("qft", *given))
    monkeypatch.setenv("LOCAL_RANK", "0")  # as if a launcher had started the others
    monkeypatch.setattr(hardware, "deepspeed_strategy", lambda: None)  # and DeepSpeed were installed
    with pytest.raises(ConfigError, match=message):
        fit(job("qft", *given, *words))


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
def test_ctrl_c_ends_all_processes_and_the_same_command_goes_on(command, tmp_path):
    """Told to the first one only, in the midst of a step, when the other will wait for it; SIGTERM is so told below."""
    given = command("qft", *SETTINGS, "trainer.devices=2")
    process = ForkedCommand("train.py", given)
    while not list((tmp_path / "out" / "checkpoints").glob("step-*.ckpt")):
        assert process.poll() is None, process.stderr
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert process.stderr.endswith("stopped. The same command continues where it was.\n")
    done = run("train.py", given)
    assert done.returncode == 0 and "continuing from step" in done.stderr, done.stderr


@pytest.mark.slow
def test_shards_of_two_processes_go_on_in_one(command, job, tmp_path):
    """SIGTERM to the first of two, which both save; FSDP's shards are read by one process, and go nowhere else."""
    words = [*SETTINGS, "trainer.strategy=fsdp", "trainer.checkpoint_every=500", "trainer.export=best"]
    process = ForkedCommand("train.py", command("qft", *words, "trainer.devices=2"))
    while (reached := read_progress(tmp_path / "out")) is None or not reached.done:
        assert process.poll() is None, process.stderr
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 130
    (shards,) = (tmp_path / "out" / "checkpoints").glob("step-*.ckpt")
    assert len(list(shards.glob("*.distcp"))) == 2
    with pytest.raises(
        ConfigError, match=r"trainer\.strategy=auto: .* is in shards.*go on with trainer\.strategy=fsdp"
    ):
        fit(job("qft", *SETTINGS, "trainer.export=best"))
    job("qft", *words, "trainer.devices=1").run()
    shutil.move(tmp_path / "out", tmp_path / "stopped")
    job("qft", *words, "trainer.devices=2").run()
    ours, theirs = weights(tmp_path / "stopped"), weights(tmp_path / "out")
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-2, atol=1e-3)
