"""What is told during training: the FLOPs of a token and the share of a GPU's peak they come to."""

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from sq.train.fit import fit
from sq.train.progress import PEAKS, TrainingProgress, flops_per_token, peak_flops, utilisation


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10G", 70),
        ("NVIDIA A10", 125),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA H20", 148),
        ("NVIDIA B200", 2250),
        ("NVIDIA GB200", 2500),
        ("NVIDIA L4", 121),
        ("NVIDIA L40", 181),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165),
    ],
)
def test_a_gpus_peak_is_found_by_its_name(name, tera):
    assert peak_flops(name) == tera * 1e12


def test_no_name_of_the_table_hides_another():
    names = list(PEAKS)
    for at, name in enumerate(names):
        assert not any(earlier in name for earlier in names[:at]), name


def test_the_share_of_the_peak():
    assert utilisation(98.9e12, "NVIDIA H200") == pytest.approx(0.1)
    assert utilisation(1e12, "Some other card") is None and peak_flops("Some other card") is None


@pytest.mark.parametrize("tied", [False, True])
def test_the_flops_of_a_token(tied):
    config = LlamaConfig(
        vocab_size=50, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, tie_word_embeddings=tied,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    layer = 4 * 8 * 8 + 3 * 8 * 12 + 2 * 8
    body, head = flops_per_token(model)
    assert (body, head) == (6 * (2 * layer + 8), 6 * 50 * 8)
    for parameter in model.parameters():  # as ZeRO-3 leaves them: the numbers are elsewhere
        parameter.ds_numel, parameter.data = parameter.numel(), parameter.data.new_empty(0)
    assert flops_per_token(model) == (body, head)
    model.model.requires_grad_(False)
    assert flops_per_token(model)[0] == 4 * (2 * layer + 8)


def test_the_learning_rate_logged_is_the_one_each_step_was_taken_with(job, monkeypatch):
    logged, report = [], TrainingProgress._report

    def noted(self, *args):
        report(self, *args)
        logged.append(self.final["train/lr"])

    monkeypatch.setattr(TrainingProgress, "_report", noted)
    plan = ("stage.max_steps=3", "stage.batch_packs=2", "stage.batch_rows=null", "stage.warmup_steps=1")
    fit(job("sft", *plan, "stage.schedule=linear", "stage.lr=4e-3"))
    assert logged == pytest.approx([0.002, 0.004, 0.002]), "up in one step, then down to 0 after the last"
