"""Attention over packs: which kernel, chosen once with the reason logged, and the computation per row on SDPA.

Tokens of a pack attend causally to their own row only, and with prefix sharing to the shared prefix too (paper §3.1;
its released scripts let packed questions see each other). A model is switched to our function through transformers'
attention registry. It finds where the rows lie in the `pack_layout` argument that travels through the model; without
one it is transformers' own SDPA, so generating and plain batches go on working.

On CPU, and on a GPU without better, rows of like length are gathered into batches of small attention problems: work
grows with the square of the rows' lengths, not of the pack's. On a GPU FlashAttention takes the rows' boundaries as
they are, and FlexAttention shares the prefix, where that saves a tenth of the tokens or more.
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from sq.core.errors import ConfigError
from sq.models.flex import BLOCK, FlexLayout, flex_attention_over, flex_layout_of
from sq.models.layout import Layout, Rule, attend_by_groups, layout_of
from sq.models.pack import Pack
from sq.models.varlen import TORCH, VarlenLayout, flash_implementation, varlen_attention_over, varlen_layout_of

log = logging.getLogger(__name__)
NAME = "sq_packed"
KNOWN_LAYERS = {"full_attention", "sliding_attention"}
WORTH_SHARING = 0.1
"""Share of the tokens that a shared prefix has to save: below, FlashAttention without it is faster."""

FLASH_CAPABILITY = 8


class Kernel(Enum):
    """How attention over a pack is computed."""

    AUTO = "auto"
    SDPA = "sdpa"
    FLASH = "flash"
    FLEX = "flex"
    UNPACKED = "unpacked"


@dataclass(frozen=True, kw_only=True)
class Attention:
    """The kernel in use, why, and whether packs may share a prefix under it."""

    kernel: Kernel
    reason: str
    shares_prefix: bool
    flash: str = ""
    """Under `flash`, the build of FlashAttention."""
    windows: tuple[int | None, ...] = (None,)
    """The sliding windows of the model's layers; None for a layer that sees the whole row."""
    pad_to: int = 0
    """Tokens that packs are padded to, so that a compiled model sees one size; 0 leaves them as they are."""

    @property
    def packs(self) -> bool:
        """Whether rows run side by side; if not, each row is a pass of its own."""
        return self.kernel is not Kernel.UNPACKED

    def padding_to(self, tokens: int) -> Attention:
        """The same for packs that are padded to one size, where the kernel works on the pack as a whole."""
        size = -(-tokens // BLOCK) * BLOCK
        return replace(self, pad_to=size) if self.kernel in (Kernel.FLEX, Kernel.FLASH) else self


def choose_attention(
    model: PreTrainedModel, wanted: Kernel = Kernel.AUTO, *, share_prefix: bool = True, half: bool | None = None,
    saved: float = 1.0, device: torch.device | None = None,
) -> Attention:  # fmt: skip
    """Choose the attention for packs, switch `model` to it, and log the choice with its reason.

    Args:
        wanted: a kernel by name, or `auto`.
        share_prefix: whether packs may share a prefix.
        half: whether it computes in half precision, where its weights do not tell.
        saved: the share of all tokens that sharing the prefix saves.
        device: where it will run, if it is not there yet.

    Raises:
        ConfigError: when a kernel is asked for by name that this machine or model cannot run.
    """
    obstacle = _obstacle(model)
    parameter = next(model.parameters())
    device = torch.device(device or parameter.device)
    machine = _Machine(
        capability=torch.cuda.get_device_capability(device)[0] if device.type == "cuda" else 0,
        half=parameter.dtype.itemsize < 4 if half is None else half,
    )
    if obstacle and wanted in (Kernel.AUTO, Kernel.UNPACKED):
        chosen = Attention(kernel=Kernel.UNPACKED, reason=obstacle, shares_prefix=False)
    elif obstacle:
        raise ConfigError(f"attention={wanted.value} cannot be used: {obstacle}; use attention=auto")
    elif wanted is Kernel.AUTO:
        chosen = _best(model, machine, share_prefix, saved)
    else:
        chosen = _asked_for(wanted, model, machine, share_prefix)
    chosen = replace(chosen, windows=_windows(model))
    if not chosen.packs:
        _prepare_unpacked(model)
    elif chosen.kernel is Kernel.FLASH and chosen.flash != TORCH:
        model.set_attn_implementation(chosen.flash)
    else:
        AttentionInterface.register(NAME, packed_attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)
    log.info(
        "attention over packs: %s, %s (%s)",
        chosen.kernel.value,
        "prefix shared" if chosen.shares_prefix else "prefix not shared",
        chosen.reason,
    )
    return chosen


def attention_arguments(attention: Attention, pack: Pack) -> dict[str, Any]:
    """What the model's forward needs, beside ids and positions, to keep the rows of `pack` apart."""
    if pack.prefix and not attention.shares_prefix:
        raise ValueError(f"{attention.kernel.value} attention cannot run a pack that shares a prefix; collate without")
    layout: Any
    if attention.kernel is Kernel.FLASH:
        layout = varlen_layout_of(pack)
        if attention.flash != TORCH:
            return {
                "cu_seq_lens_q": layout.bounds,
                "cu_seq_lens_k": layout.bounds,
                "max_length_q": layout.longest,
                "max_length_k": layout.longest,
            }
    else:
        layout = flex_layout_of(pack, attention.windows) if attention.kernel is Kernel.FLEX else layout_of(pack)
    # A mask with four dimensions is taken as ready: transformers then builds none (a dense one is T by T).
    return {"attention_mask": pack.input_ids.new_zeros(1, 1, 0, 0), "pack_layout": layout}


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    pack_layout: Layout | FlexLayout | VarlenLayout | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The function that transformers' attention layers call: [1, H, T, D] in, [1, T, H, D] out."""
    if pack_layout is None:
        if attention_mask is not None and attention_mask.numel() == 0:
            raise RuntimeError(
                f"{type(module).__name__} did not receive the pack's layout: this model does not hand keyword "
                "arguments to its attention layers and cannot run packs; use attention=unpacked"
            )
        if softcap is not None or s_aux is not None:
            raise RuntimeError(
                f"{type(module).__name__} asks for soft-capping or sinks, which SDPA has not; outside packs call "
                "model.set_attn_implementation('eager') first"
            )
        out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
        return out, None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if isinstance(pack_layout, FlexLayout):
        if s_aux is not None or dropout:
            raise RuntimeError("attention=flex has neither attention sinks nor dropout; use attention=sdpa")
        out = flex_attention_over(query, key, value, pack_layout, scale, sliding_window, softcap)
        return out.transpose(1, 2), None
    if isinstance(pack_layout, VarlenLayout):
        if s_aux is not None or dropout or softcap is not None:
            raise RuntimeError(
                "attention=flash by torch has neither sinks, soft-capping nor dropout; use attention=sdpa"
            )
        dtype = _working_dtype(query)
        q, k, v = (x[0].transpose(0, 1).to(dtype) for x in (query, key, value))
        return varlen_attention_over(q, k, v, pack_layout, scale, sliding_window)[None], None
    rule = Rule(scale=scale, window=sliding_window, softcap=softcap, sinks=s_aux, dropout=dropout)
    dtype = _working_dtype(query)
    q, k, v = (x[0].transpose(0, 1).to(dtype) for x in (query, key, value))
    return attend_by_groups(q, k, v, pack_layout, rule)[None], None


def _working_dtype(query: Tensor) -> torch.dtype:
    """The type to attend in: rotary embeddings leave fp32 under autocast, which the products would take as it is."""
    kind = query.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype


def _obstacle(model: PreTrainedModel) -> str:
    """Why packs cannot run on `model`, or nothing."""
    name = type(model).__name__
    if not model._supports_attention_backend:
        return f"{name} does not take its attention from transformers' registry, so rows of a pack cannot be kept apart"
    kinds = set(model.config.to_dict().get("layer_types") or ()) - KNOWN_LAYERS
    if kinds:
        return f"{name} has layers of kind {', '.join(sorted(kinds))}, which mix the rows of a pack"
    return ""


def _prepare_unpacked(model: PreTrainedModel) -> None:
    """Rows one by one run on transformers' own attention; SDPA there leaves soft-capping and sinks out."""
    if model._supports_attention_backend:
        known = model.config.to_dict()
        written_out = known.get("attn_logit_softcapping") or not model._supports_sdpa
        model.set_attn_implementation("eager" if written_out else "sdpa")


@dataclass(frozen=True, kw_only=True)
class _Machine:
    """Where the model computes, and in what."""

    capability: int
    """A GPU's compute capability; 0 where there is none."""
    half: bool

    def flash(self, model: PreTrainedModel) -> tuple[str, str]:
        """The build of FlashAttention that can run, and why none can."""
        build = flash_implementation()
        config = model.config.get_text_config().to_dict()
        if not self.capability:
            return "", "needs a GPU"
        if self.capability < FLASH_CAPABILITY:
            return "", f"needs a GPU of compute capability {FLASH_CAPABILITY} (Ampere) or more"
        if not self.half:
            return "", "computes in half precision alone, and here is fp32 (trainer.precision=bf16 is half)"
        if build == TORCH and config.get("attn_logit_softcapping"):
            return "", "needs the flash-attn package where scores are soft-capped"
        return build, "" if build else "needs the flash-attn package, or a newer torch"


def _best(model: PreTrainedModel, machine: _Machine, share_prefix: bool, saved: float) -> Attention:
    if not machine.capability:
        return Attention(kernel=Kernel.SDPA, reason="no GPU: SDPA, row by row in groups", shares_prefix=share_prefix)
    build, obstacle = machine.flash(model)
    has_flex = importlib.util.find_spec("triton") is not None
    worth = share_prefix and saved >= WORTH_SHARING
    if has_flex and (worth or not build):
        reason = f"a shared prefix saves {saved:.0%} of the tokens" if worth else f"FlashAttention {obstacle}"
        return Attention(kernel=Kernel.FLEX, reason=reason, shares_prefix=share_prefix)
    if build:
        missing = "; prefix sharing needs triton, which is not installed" if worth else ""
        return Attention(kernel=Kernel.FLASH, reason=f"by {build}{missing}", shares_prefix=False, flash=build)
    reason = f"triton is not installed, and FlashAttention {obstacle}"
    return Attention(kernel=Kernel.SDPA, reason=reason, shares_prefix=share_prefix)


def _asked_for(wanted: Kernel, model: PreTrainedModel, machine: _Machine, share_prefix: bool) -> Attention:
    build, obstacle = machine.flash(model)
    if wanted is Kernel.FLASH and obstacle:
        raise ConfigError(f"attention=flash {obstacle}; use attention=auto")
    if wanted is Kernel.FLEX and not (machine.capability and importlib.util.find_spec("triton")):
        raise ConfigError(
            "attention=flex needs a GPU and triton (FlexAttention cannot train on CPU); use attention=auto"
        )
    shares = share_prefix and wanted in (Kernel.SDPA, Kernel.FLEX)
    flash = build if wanted is Kernel.FLASH else ""
    return Attention(kernel=wanted, reason="asked for", shares_prefix=shares, flash=flash)


def _windows(model: PreTrainedModel) -> tuple[int | None, ...]:
    """The sliding windows that the model's layers ask for."""
    config = model.config.get_text_config().to_dict()
    window = config.get("sliding_window")
    kinds = config.get("layer_types") or ["sliding_attention" if window else "full_attention"]
    return tuple(dict.fromkeys(window if kind == "sliding_attention" else None for kind in kinds))
