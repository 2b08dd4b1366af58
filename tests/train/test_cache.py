"""What is kept beside a run: tokens and reference log-probabilities, made once, shared by a sweep, missed when gone."""

import math
import re
import shutil
from dataclasses import replace

import pytest

from sq.core.errors import ConfigError, SqError
from sq.models import losses
from sq.train.fit import fit
from sq.train.launch import rank, started_outside
from sq.train.progress import TrainingProgress


def test_a_sweep_shares_tokens_and_references(job, pairs, tmp_path, caplog):
    shared = (f"data.input={pairs}", f"trainer.cache={tmp_path / 'cache'}", "stage.max_steps=1", "stage.warmup_steps=0")
    with caplog.at_level("INFO"):
        fit(job("qpo", *shared, "stage.lr=1e-4", f"output_dir={tmp_path / 'a'}"))
        assert "reference log-probabilities of 40 pairs" in caplog.text
        before = sorted(p.name for p in (tmp_path / "cache").iterdir())
        caplog.clear()
        fit(job("qpo", *shared, "stage.lr=1e-3", f"output_dir={tmp_path / 'b'}"))
        assert "reference log-probabilities: from" in caplog.text
        assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == before
        alone = ("seed=1", "stage.pack_tokens=8192")  # other packs, other rounding: made anew
        fit(job("qpo", *shared, *alone, f"output_dir={tmp_path / 'c'}"))
        assert "in 1 pack of 8,192 tokens" in caplog.text
        assert "1 of 1 pack (about " in caplog.text
    references = [p for p in (tmp_path / "cache").iterdir() if p.name.startswith("reference-")]
    assert len(references) == 2


def test_a_resumed_run_does_not_make_references_of_moved_weights(job, pairs, tmp_path, monkeypatch):
    words = (f"data.input={pairs}", "stage.batch_rows=4", "trainer.checkpoint_every=2")
    own, calls = losses.qpo_loss, []

    def breaks(*args, **kwargs):
        out = own(*args, **kwargs)
        calls.append(1)
        return replace(out, loss=out.loss * math.nan) if len(calls) > 8 else out

    with monkeypatch.context() as patched:
        patched.setattr(losses, "qpo_loss", breaks)
        with pytest.raises(SqError, match="the loss is nan"):
            fit(job("qpo", *words))
    assert list((tmp_path / "out" / "checkpoints").glob("*.ckpt"))
    for path in (tmp_path / "out" / "cache").glob("reference-*"):
        path.unlink()
    with pytest.raises(SqError, match=r"was stopped at step \d+, and its reference log-probabilities .* are gone"):
        fit(job("qpo", *words))
    shutil.rmtree(tmp_path / "out")
    fit(job("qpo", *words))


def test_a_run_goes_on_with_the_references_it_began_with(job, pairs, tmp_path, monkeypatch, caplog):
    """Whatever its hardware is now: here the strategy is another one, by which references would be others."""
    words = (f"data.input={pairs}", "stage.batch_rows=4", "trainer.checkpoint_every=2")
    monkeypatch.setattr(
        TrainingProgress, "on_train_batch_end", lambda self, trainer, *rest: trainer.global_step < 3 or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        fit(job("qpo", *words))
    monkeypatch.undo()
    with caplog.at_level("INFO"):
        job("qpo", *words, "trainer.strategy=ddp").run()
    assert not started_outside()  # by what Lightning has set for the strategy
    assert "continuing from step 2" in caplog.text and "reference log-probabilities: from" in caplog.text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.limit=0"], r"data\.limit=0 must be at least 1"),
        (["stage.max_steps=0"], r"stage\.max_steps=0 must be at least 1"),
        (["stage.epochs=0"], r"stage\.epochs=0\.0 must be above 0"),
        (["data.mix={a.jsonl: -1}"], r"mix\.a\.jsonl\.weight=-1 must be a number above 0"),
        (["data.mix={a.jsonl: 1}", "data.input=b.jsonl"], r"input and mix are both given"),
        (["data.too_long=cut"], r"data\.too_long='cut' is not one of reject, truncate"),
        (["trainer.strategy=fdsp"], r"trainer\.strategy='fdsp' is not one of .*did you mean 'fsdp'"),
        (["trainer.lora.quantize=true"], r"quantize=true trains nothing without adapters"),
    ],
)
def test_a_setting_that_cannot_be_is_told_before_anything_is_loaded(job, words, message):
    with pytest.raises(ConfigError, match=message):
        job("qft", *words)


def test_a_tokenizer_without_chat_template_is_told_with_the_mend(job, tiny_model, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(tiny_model, bare)
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match=r"chat template") as caught:
        fit(job("qft", f"model.path={bare}", "data.limit=9"))
    assert re.search(r"model\.chat\.prefix", str(caught.value))


def test_who_starts_the_processes_is_read_from_the_environment(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    assert rank() == 0 and not started_outside()
    monkeypatch.setenv("SLURM_PROCID", "0")  # inside an allocation, but not started by srun as one of several
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert not started_outside()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "16")
    monkeypatch.setenv("SLURM_PROCID", "9")
    assert rank() == 9 and started_outside()
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert rank() == 3 and started_outside()
