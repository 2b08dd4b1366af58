"""Tiny random reward models of each form, in Hugging Face form, and a plain forward pass of each."""

import json
from dataclasses import dataclass

import torch
from safetensors.torch import save_file
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForSequenceClassification,
    Qwen2Config,
    Qwen3Config,
    Qwen3ForSequenceClassification,
)
from transformers.models.llama.modeling_llama import LlamaModel
from transformers.models.qwen2.modeling_qwen2 import Qwen2Model

from sq.models.load import Dtype, ModelConfig

SIZE = 64
SHAPE = {"hidden_size": SIZE, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
         "num_key_value_heads": 1, "max_position_embeddings": 512, "head_dim": 32}  # fmt: skip
STEP = "<extra_0>"
INTERNLM_CODE = """
from transformers import PretrainedConfig

class InternLM2Config(PretrainedConfig):
    model_type = "internlm2"
"""


@dataclass
class RewardModel:
    """A model on disk, its tokenizer, and the numbers that its head gives every token."""

    config: ModelConfig
    tokenizer: object
    numbers: object

    def ids(self, messages):
        return self.tokenizer.apply_chat_template(list(messages), tokenize=True, return_dict=False)


def make(kind, base, directory):
    """A random model of the architecture `kind` with the tokenizer of `base`."""
    torch.manual_seed(7)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens([STEP, "<reward>"], special_tokens=True)
    tokenizer.save_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    numbers = FORMS[kind](directory, {**SHAPE, "vocab_size": len(tokenizer)}, tokenizer)
    trusted = kind == "InternLM2ForRewardModel"
    model = ModelConfig(name=kind, path=str(directory), dtype=Dtype.FP32, trust_remote_code=trusted)
    return RewardModel(model, tokenizer, torch.no_grad()(numbers))


def _classifier(config_kind, kind):
    def form(directory, shape, tokenizer):
        model = kind(config_kind(**shape, num_labels=1, pad_token_id=None)).eval()
        model.score.weight.data.normal_(std=1.0)
        model.save_pretrained(directory)
        return lambda ids: model.score(model.model(torch.tensor([ids])).last_hidden_state)[0]

    return form


def _qwen_reward(labels, name):
    def form(directory, shape, tokenizer):
        config = Qwen2Config(**shape, architectures=[name])
        body = Qwen2Model(config).eval()
        head = torch.nn.Sequential(torch.nn.Linear(SIZE, SIZE), torch.nn.ReLU(), torch.nn.Linear(SIZE, labels))
        state = {f"model.{k}": v for k, v in body.state_dict().items()} | {
            f"score.{k}": v for k, v in head.state_dict().items()
        }
        save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(directory)
        return lambda ids: head(body(torch.tensor([ids])).last_hidden_state)[0]

    return form


def _internlm2(directory, shape, tokenizer):
    """InternLM2 is a Llama whose query, key and value of a group are one matrix; its score is the reward token's."""
    body, head = LlamaModel(LlamaConfig(**shape)).eval(), torch.randn(1, SIZE)
    state = {"model.tok_embeddings.weight": body.embed_tokens.weight, "model.norm.weight": body.norm.weight}
    for i, layer in enumerate(body.layers):
        q, k, v = (getattr(layer.self_attn, f"{name}_proj").weight for name in "qkv")
        state |= {f"model.layers.{i}.{name}.weight": weight for name, weight in {
            "attention.wqkv": torch.cat([q, k, v]), "attention.wo": layer.self_attn.o_proj.weight,
            "feed_forward.w1": layer.mlp.gate_proj.weight, "feed_forward.w3": layer.mlp.up_proj.weight,
            "feed_forward.w2": layer.mlp.down_proj.weight, "attention_norm": layer.input_layernorm.weight,
            "ffn_norm": layer.post_attention_layernorm.weight,
        }.items()}  # fmt: skip
    state["v_head.weight"] = head
    state = {name: tensor.detach().contiguous() for name, tensor in state.items()}
    save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
    config = shape | {
        "model_type": "internlm2", "architectures": ["InternLM2ForRewardModel"], "bias": False, "hidden_act": "silu",
        "auto_map": {"AutoConfig": "configuration_internlm2.InternLM2Config"}, "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0, "tie_word_embeddings": False, "dtype": "float32",
        "reward_token_id": tokenizer.convert_tokens_to_ids("<reward>"),
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "configuration_internlm2.py").write_text(INTERNLM_CODE)
    return lambda ids: body(torch.tensor([[*ids, config["reward_token_id"]]])).last_hidden_state[0] @ head.T


FORMS = {
    "LlamaForSequenceClassification": _classifier(LlamaConfig, LlamaForSequenceClassification),
    "Qwen3ForSequenceClassification": _classifier(Qwen3Config, Qwen3ForSequenceClassification),
    "Qwen2ForRewardModel": _qwen_reward(1, "Qwen2ForRewardModel"),
    "Qwen2ForProcessRewardModel": _qwen_reward(2, "Qwen2ForProcessRewardModel"),
    "InternLM2ForRewardModel": _internlm2,
}
