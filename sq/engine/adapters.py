"""LoRA adapters as peft saves them: their rank and digest, and the arguments that make vLLM ready for them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from sq.core.errors import EngineError

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks of adapters that vLLM makes room for."""


def lora_arguments(lora: str | None) -> dict[str, Any]:
    """What makes vLLM ready for the adapter; nothing, where there is none."""
    if lora is None:
        return {}
    rank = adapter(lora)[0]
    return {"enable_lora": True, "max_loras": 1, "max_lora_rank": next((r for r in RANKS if r >= rank), rank)}


def adapter(directory: str) -> tuple[int, str]:
    """Rank and digest of an adapter."""
    files = [Path(directory) / name for name in ("adapter_config.json", "adapter_model.safetensors")]
    if missing := [file.name for file in files if not file.is_file()]:
        raise EngineError(
            f"engine.lora={directory!r} has no {' and no '.join(missing)}: give the directory of a LoRA adapter that "
            "peft has saved, with its weights as safetensors"
        )
    digest = hashlib.blake2b(b"".join(file.read_bytes() for file in files), digest_size=4).hexdigest()
    return int(json.loads(files[0].read_text())["r"]), digest
