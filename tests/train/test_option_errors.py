"""What cannot be done is refused before anything is trained, with the setting and the fix."""

from importlib.util import find_spec

import pytest
import torch

from sq.core.errors import ConfigError
from sq.models.load import load_model
from sq.train import hardware, model
from sq.train.fit import fit
from sq.train.qft import QFTStage


@pytest.mark.parametrize(
    ("stage", "words", "message"),
    [
        (
            "qft",
            ["trainer.lora.rank=4", "trainer.lora.quantize=true", "trainer.strategy=fsdp"],
            r"trainer\.lora\.quantize=true with trainer\.strategy=fsdp: weights in 4 bit .*use trainer\.strategy=ddp",
        ),
        (
            "qft",
            ["stage.optimizer=paged_adamw_32bit", "trainer.strategy=fsdp"],
            r"stage\.optimizer=paged_adamw_32bit cannot work on FSDP's shards.*or trainer\.strategy=deepspeed or ddp",
        ),
        (
            "qft",
            ["trainer.attention=unpacked", "trainer.strategy=fsdp", "trainer.devices=2"],
            r"trainer\.strategy=fsdp needs packs, and here rows run one by one \(asked for\).*use trainer\.st.*=ddp",
        ),
        (
            "qft",
            ["trainer.strategy=deepspeed", "trainer.precision=bf16"],
            r"trainer\.precision=bf16 with trainer\.strategy=deepspeed: .*; use trainer\.precision=bf16_mixed",
        ),
        ("qft", ["trainer.checkpointed_layers=0.5"], r"trainer\.checkpointed_layers=0\.5 is a share .* set that too"),
        ("qft", ["trainer.head=liger"], r"trainer\.head=liger cannot be used: no GPU; use trainer\.head=auto"),
        (
            "pretrain",
            ["model=tiny-new", "model.path=new:tiny", "trainer.lora.rank=4", "stage.documents=50", "stage.max_steps=1"],
            r"trainer\.lora\.rank=4: .* model=tiny-new has none yet; set trainer\.lora\.rank=0",
        ),
        (
            "qft",
            ["trainer.export=best", "stage.validation=0"],
            r"trainer\.export=best .* stage\.validation=0 holds out none; set stage\.validation=0\.02, or .*=last",
        ),
        (
            "qft",
            ["trainer.head=cce", "stage.label_smoothing=0.1"],
            r"trainer\.head=cce .*stage=qft with stage\.label_smoothing needs trainer\.head=auto",
        ),
        ("qpo", ["trainer.head=cce"], r"trainer\.head=cce is for cross-entropy; stage=qpo needs trainer\.head=auto"),
        (
            "qft",
            ["trainer.lora.rank=4", "trainer.lora.targets=[q_prj]"],
            r"targets has q_prj, but the model's linear layers are .*q_proj",
        ),
        (
            "qft",
            ["trainer.lora.rank=4", "trainer.lora.targets=[q_proj,lm_head]"],
            r"trainer\.lora\.targets has lm_head, whose weights are the embedding's too",
        ),
        (
            "qpo",
            ["trainer.lora.rank=4", "trainer.lora.dropout=0.1"],
            r"lora\.dropout=0\.1 must be 0 with stage=qpo",
        ),
        ("qft", ["trainer.accelerator=gpu"], r"trainer\.accelerator=gpu, but torch sees no GPU here"),
        ("qft", ["trainer.attention=flash"], r"attention=flash needs a GPU"),
        ("qft", ["model=tiny-new", "model.path=new:tiny"], r"has no weights yet; make some with stage=pretrain"),
    ],
)
def test_what_cannot_be_done_is_told_with_a_mend(job, pairs, stage, words, message):
    if torch.cuda.is_available() and "gpu" in words[0]:
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match=message):
        fit(job(stage, *([f"data.input={pairs}"] if stage == "qpo" else ["data.limit=9"]), *words))


@pytest.mark.skipif(find_spec("deepspeed") is not None, reason="DeepSpeed is installed")
def test_deepspeed_that_is_not_installed_is_told_before_rows_are_read(job):
    message = r"trainer\.strategy=deepspeed needs DeepSpeed 0\.16 or later: pip install -U deepspeed, or use trainer\."
    with pytest.raises(ConfigError, match=message):
        hardware.checked_trainer(job("qft", "trainer.strategy=deepspeed").trainer, QFTStage(name="qft", lr=1.0))


def test_smoothed_labels_of_pairs_are_for_the_robust_loss(job):
    with pytest.raises(ConfigError, match=r"stage: label_smoothing=0\.1 is for loss=robust; set it to 0"):
        job("qpo", "stage.label_smoothing=0.1")


def test_two_sizes_of_a_step_are_one_too_many(job):
    with pytest.raises(ConfigError, match=r"batch_packs=4 and batch_rows=8 are both given; set one of them to null"):
        job("qft", "stage.batch_rows=8")


def test_rows_beyond_the_models_context_are_refused(job):
    made = job("qft")
    loaded = load_model(made.model)
    loaded.config.max_position_embeddings = 16
    message = r"the longest row has 20 tokens, but the model's context is 16; set data\.max_tokens=16"
    with pytest.raises(ConfigError, match=message):
        model.check_context(loaded, 20)
