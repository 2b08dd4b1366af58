"""A regressor (of difficulty, of reward): a causal LM and a linear head with bias on the last token (paper, §2.3).

On disk it is a Hugging Face sequence classifier with one label, which transformers and vLLM (as a pooling model) load
as it is and which gives W·h. That form knows no bias, so b stands in `regressor.json` beside it, with the token ids
that questions are put between; `Regressor` adds it. A reward model's is in `reward.json`: whoever scores with it adds
b or leaves it, the order is the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerFast

from sq.core.chat import ChatFormat
from sq.core.errors import ConfigError
from sq.models.attention import Attention, choose_attention
from sq.models.export import replaced, write_weights
from sq.models.load import ModelConfig, computed_in, eos_ids, load_classifier, load_tokenizer, locate
from sq.models.pack import Pack
from sq.models.packed_forward import last_states

NOTE = "regressor.json"


class Regressor:
    """An exported regressor, ready to score packs."""

    def __init__(self, config: ModelConfig, *, dtype: str | None = None) -> None:
        path = Path(locate(config)) / NOTE
        if not path.is_file():
            raise ConfigError(f"model.path={config.path!r} is no difficulty regressor of ours: it has no {NOTE}")
        note = json.loads(path.read_text())
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = load_classifier(config, dtype=dtype or computed_in(config, "auto", device)).eval().to(device)
        self.attention = choose_attention(self.model)
        self.chat = ChatFormat.from_tokenizer(load_tokenizer(config), config.chat, eos_ids=eos_ids(config))
        self.chat.require_same(note["chat"], config.path)
        self.head = nn.Linear(self.model.score.in_features, 1)
        with torch.no_grad():
            self.head.weight.copy_(self.model.score.weight)
            self.head.bias.fill_(note["bias"])
        self.head.to(device)

    @torch.no_grad()
    def score(self, pack: Pack) -> list[float]:
        """The predicted fail rate of each row of a pack (collated with `keep_last`)."""
        return predictions(self.model, self.head, pack, self.attention).tolist()


def make_head(model: PreTrainedModel, bias: float) -> nn.Linear:
    """A head that says `bias` (the labels' mean) to everything, in fp32."""
    head = nn.Linear(model.config.get_text_config().hidden_size, 1)
    nn.init.zeros_(head.weight)
    nn.init.constant_(head.bias, bias)
    return head


def predictions(model: PreTrainedModel, head: nn.Linear, pack: Pack, attention: Attention) -> Tensor:
    """[N] what the head says of each row of a pack that was collated with `keep_last`."""
    states = last_states(model, pack, attention)
    with torch.autocast(states.device.type, enabled=False):
        return head(states.to(head.weight.dtype))[:, 0].float()  # type: ignore[no-any-return]


def export_regressor(
    model: PreTrainedModel,
    state: Iterable[tuple[str, Tensor]],
    head: Mapping[str, Tensor],
    tokenizer: PreTrainedTokenizerFast,
    chat: ChatFormat,
    directory: Path,
    *,
    dtype: torch.dtype,
    origin: dict[str, Any],
    note: str = NOTE,
) -> Path:
    """Write `state` (the model's weights by name) and the head as a sequence classifier.

    `note` is the file that b goes to: it says what the classifier is for.
    """
    config = _classifier_config(model, chat)

    def weights() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in state:
            if name.startswith(f"{model.base_model_prefix}."):
                yield name, tensor
        yield "score.weight", head["weight"]  # which may come with the last of `state`

    with replaced(directory, origin) as staging:
        write_weights(weights(), staging, dtype)
        config.dtype = dtype
        config.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        (staging / note).write_text(json.dumps({"bias": float(head["bias"]), "chat": chat.record()}, indent=2) + "\n")
    return directory


def exchange_ids(
    tokenizer: PreTrainedTokenizerFast, question: str, solution: str, instruction: str = ""
) -> tuple[int, ...]:
    """What a reward model reads of a question and its solution: the chat template's own ids, as engines score them."""
    asked = f"{question.strip()}\n{instruction}" if instruction else question.strip()
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": solution}]
    return tuple(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False))


def _classifier_config(model: PreTrainedModel, chat: ChatFormat) -> Any:
    """The config of the sequence classifier of this family.

    Transformers' classifiers look for the last token that is not padding. Where pad = end they would take the token
    before it, so such a config has no pad token: rows are then scored one by one there, and right.
    """
    config = type(model.config).from_dict(model.config.to_dict())
    try:
        kind = AutoModelForSequenceClassification._model_mapping[type(config)]
    except KeyError as error:
        raise ConfigError(f"transformers has no sequence classifier for {type(model).__name__}") from error
    config.num_labels = 1
    config.problem_type = "regression"
    config.architectures = [kind.__name__]
    if config.pad_token_id in chat.end_ids:
        config.pad_token_id = None
    return config
