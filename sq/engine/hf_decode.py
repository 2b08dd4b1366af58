"""Decoding with a transformers model: rows prefilled together, each sampled by its own seed, leaving when they end.

A row's text depends on its prompt, sampling and seed, not on what is decoded beside it: its random numbers are its
own (one a token, put through the inverse of the cumulative distribution), and padding on the left is masked and
carries no position. Equal prompts, such as several completions of one request, are prefilled once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from sq.engine.base import Sampling
from sq.engine.nucleus import keep_nucleus, uniform

GREEDY_BELOW = 1e-5
"""Temperatures under it are greedy, as in vLLM: dividing by them would overflow."""


@dataclass(slots=True, eq=False)
class PartialCompletion:
    """One completion in the making."""

    prompt: tuple[int, ...]
    sampling: Sampling
    seed: int
    index: int
    limit: int
    stops: frozenset[int]
    stopped: Callable[[list[int]], bool] | None = None
    """Whether the ids so far hold a text that ends the answer."""
    ids: list[int] = field(default_factory=list)
    finish: str = ""
    problem: str | None = None

    def restart(self) -> None:
        """Back to the prompt, with the same random numbers ahead."""
        self.ids, self.finish, self.problem = [], "", None

    def take(self, token: int) -> bool:
        """Add a token; whether the row goes on."""
        self.ids.append(token)
        if token in self.stops or (self.stopped and self.stopped(self.ids)):
            self.finish = "stop"
        elif len(self.ids) == self.limit:
            self.finish = "length"
        return not self.finish

    @property
    def text_ids(self) -> list[int]:
        """The ids without the one that ended the text."""
        return self.ids[:-1] if self.ids and self.ids[-1] in self.stops else self.ids


@torch.inference_mode()
def decode(model: PreTrainedModel, rows: Sequence[PartialCompletion]) -> None:
    """Complete `rows` in place."""
    live, (logits, cache, mask) = list(rows), _prefill(model, rows)
    ends = torch.tensor([len(row.prompt) for row in live], device=mask.device)
    accepts = inspect.signature(model.forward).parameters
    while True:
        tokens = choose(logits, live)
        keep = [i for i, (row, token) in enumerate(zip(live, tokens, strict=True)) if _goes_on(row, token)]
        if not keep:
            return
        if len(keep) < len(live):
            index = torch.tensor(keep, device=mask.device)
            cache.batch_select_indices(index)
            mask, ends, live = mask[index], ends[index], [live[i] for i in keep]
        mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
        last = torch.tensor([row.ids[-1:] for row in live], device=mask.device)
        logits, cache = _forward(model, accepts, last, mask, ends[:, None], cache)
        ends = ends + 1


def choose(logits_BV: Tensor, rows: Sequence[PartialCompletion]) -> list[int | None]:
    """The next token of each row; none where the model gave no finite number to choose by."""
    if logits_BV.device.type == "mps":  # has no float64
        logits_BV = logits_BV.cpu()
    peaks, best = logits_BV.float().max(dim=-1)
    chosen: list[int | None] = best.tolist()
    hot = [i for i, row in enumerate(rows) if row.sampling.temperature >= GREEDY_BELOW]
    if hot:
        for i, token in zip(hot, _sample(logits_BV[hot].float(), [rows[i] for i in hot]), strict=True):
            chosen[i] = token
    return [token if ok else None for token, ok in zip(chosen, peaks.isfinite().tolist(), strict=True)]


def _sample(logits_BV: Tensor, rows: Sequence[PartialCompletion]) -> list[int]:
    logits_BV /= logits_BV.new_tensor([row.sampling.temperature for row in rows])[:, None]
    for logits_V, row in zip(logits_BV, rows, strict=True):
        if 0 < row.sampling.top_k < logits_V.numel():
            logits_V.masked_fill_(logits_V < logits_V.topk(row.sampling.top_k).values[-1], -torch.inf)
    keep_nucleus(logits_BV, {i: row.sampling.top_p for i, row in enumerate(rows) if row.sampling.top_p < 1})
    sums_BV = logits_BV.softmax(dim=-1).double().cumsum(dim=-1)
    drawn = [uniform(row.seed, row.index, len(row.ids)) for row in rows]
    points_B = sums_BV.new_tensor(drawn) * (1 - 1e-12)  # or rounding could reach past the last token
    tokens = torch.searchsorted(sums_BV, (points_B * sums_BV[:, -1])[:, None], right=True)
    return tokens[:, 0].tolist()


def _goes_on(row: PartialCompletion, token: int | None) -> bool:
    if token is None:
        row.finish, row.problem = "error", "the model's numbers overflowed (NaN or infinity). Use engine.dtype=float32"
        return False
    return row.take(token)


def _prefill(model: PreTrainedModel, rows: Sequence[PartialCompletion]) -> tuple[Tensor, Any, Tensor]:
    """Logits of each row's first token, the cache and the attention mask; each prompt once."""
    prompts = list(dict.fromkeys(row.prompt for row in rows))
    width = max(map(len, prompts))
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = torch.tensor(prompt)
        mask[i, width - len(prompt) :] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    accepts = inspect.signature(model.forward).parameters
    logits, cache = _forward(model, accepts, ids, mask, (mask.cumsum(1) - 1).clamp(min=0), None)
    place = {prompt: i for i, prompt in enumerate(prompts)}
    order = [place[row.prompt] for row in rows]
    if order == list(range(len(prompts))):
        return logits, cache, mask
    index = torch.tensor(order, device=mask.device)
    cache.batch_select_indices(index)
    return logits[index], cache, mask[index]


def _forward(
    model: PreTrainedModel, accepts: Any, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any
) -> tuple[Tensor, Any]:
    """Last logits and cache; positions and the limit to last logits go to models that take them."""
    optional = {"position_ids": positions, "logits_to_keep": 1}
    kwargs = {name: value for name, value in optional.items() if name in accepts}
    output = model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **kwargs)
    return output.logits[:, -1], output.past_key_values
