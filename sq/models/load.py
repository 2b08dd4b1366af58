"""Models: the only place that loads weights.

A model is named by its YAML in `conf/model/`: a hub id, a local directory, `package:NAME` for what ships with `sq`,
or `fetch:NAME` for what `sq model NAME` fetches and converts. Weights are safetensors only, and code from a model's
repository runs only where `trust_remote_code` says so.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sq.core.chat import ChatConfig
from sq.core.config import conf_dir, nearest, setting
from sq.core.cpu import cpu_has_bf16
from sq.core.errors import ConfigError
from sq.core.hub import check_hub, hub_host

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

NEW_TINY = "new:tiny"
PACKAGED = Path(__file__).parent.parent / "domains" / "tiny"
FULL_HASH_BYTES = 2 << 30
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


class Dtype(Enum):
    """The number format weights are held in."""

    FP32 = "float32"
    BF16 = "bfloat16"
    FP16 = "float16"
    AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A base model: where it is, how it is loaded, and how it is spoken to."""

    name: str = setting(help="short name, used in paths and tables")
    path: str = setting(help="hub id, local directory, package:NAME or fetch:NAME")
    tokenizer: str | None = setting(None, help="where the tokenizer is, if not with the model")
    revision: str | None = setting(None, help="branch, tag or commit on the hub")
    dtype: Dtype = setting(Dtype.AUTO, help="fp32, bf16, fp16 or auto (as the weights are stored)")
    trust_remote_code: bool = setting(False, help="run code from the model's repository: only say so if you trust it")
    max_length: int | None = setting(None, ge=8, help="context length to use, if less than the model's own")
    positions: int | None = setting(
        None, ge=8, help="a longer context than it has, to be trained to: rotary positions go on beyond its own"
    )
    chat: ChatConfig = field(default_factory=ChatConfig)


def locate(config: ModelConfig) -> str:
    """Where `config.path` is: a local directory where there is one, else the hub id as given."""
    kind, _, name = config.path.partition(":")
    if kind == "package":
        found = PACKAGED / name
        if not found.is_dir():
            have = sorted(p.name for p in PACKAGED.iterdir() if p.is_dir()) if PACKAGED.is_dir() else []
            raise ConfigError(f"model.path={config.path!r}: no such model in the package, which has {', '.join(have)}")
        return str(found)
    if kind == "fetch":
        from sq.models.fetch import fetch

        return str(fetch(name))
    check_path(config.path)
    if Path(config.path).is_dir():
        return str(Path(config.path))
    check_hub()
    return config.path


def check_path(path: str) -> None:
    """Refuse what can only be a local directory, and is none."""
    if path.startswith((".", "/", "~", "outputs/")) and not Path(path).is_dir():
        raise ConfigError(f"model.path={path!r} is no directory; give a folder with config.json in it")


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerFast:
    """The tokenizer of a model, ready for the chat contract."""
    from transformers import AutoTokenizer

    quiet()
    path = config.tokenizer or locate(config)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, revision=config.revision, trust_remote_code=config.trust_remote_code
        )
    except (OSError, ValueError) as error:
        if Path(path).is_dir() and not any((Path(path) / name).is_file() for name in _TOKENIZERS):
            raise ConfigError(
                f"{path} has no tokenizer: none of {', '.join(_TOKENIZERS)} is there. Copy those of the model that it "
                "was made from, or say where it is: model.tokenizer=DIR"
            ) from error
        raise _not_found(config, path, "tokenizer", error) from error
    return tokenizer


def eos_ids(config: ModelConfig) -> tuple[int, ...]:
    """The ids that end a text by the model's generation config; none where it has no such file."""
    from transformers.utils import cached_file

    found = cached_file(
        locate(config),
        "generation_config.json",
        revision=config.revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    if found is None:
        return ()
    try:
        ids = json.loads(Path(found).read_text(encoding="utf-8")).get("eos_token_id")
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"{found} cannot be read: {error}") from error
    return tuple(i for i in (ids if isinstance(ids, list) else [ids]) if isinstance(i, int))


def load_model(
    config: ModelConfig, *, dtype: str | None = None, attention: str = "sdpa", **kwargs: Any
) -> PreTrainedModel:
    """A causal language model in `dtype` (default: the config's), from safetensors."""
    from transformers import AutoModelForCausalLM

    quiet()
    path = locate(config)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path,
            revision=config.revision,
            dtype=dtype or config.dtype.value,
            attn_implementation=attention,
            trust_remote_code=config.trust_remote_code,
            use_safetensors=True,
            **kwargs,
        )
    except (OSError, ValueError) as error:
        raise _not_found(config, path, "model", error) from error
    if config.positions is not None:
        _lengthen(model, config)
    return model


def empty_model(config: ModelConfig, *, attention: str = "sdpa") -> PreTrainedModel:
    """What `load_model` gives, without weights (on torch's meta device): they are to come from another process."""
    import torch
    from transformers import AutoModelForCausalLM

    known = _configuration(config)
    code = (getattr(known, "auto_map", None) or {}).get("AutoModelForCausalLM")
    of_model = code and code.rpartition("--")[0] in ("", known.name_or_path)  # else it is in another repository
    kwargs = {"code_revision": config.revision} if of_model and config.trust_remote_code else {}
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            known, attn_implementation=attention, trust_remote_code=config.trust_remote_code, **kwargs
        )
    if config.positions is not None:
        _lengthen(model, config)
    return model


def computed_in(config: ModelConfig, asked: str, device: str) -> str:
    """The number format an engine computes in, never "auto": `asked`, else the model's own, else that of its weights.

    On a CPU that cannot multiply in bf16 a model in bf16 computes in fp32 unless bf16 is asked for: fp32 holds the same
    weights and is several times as fast.
    """
    if asked != "auto":
        return asked
    if config.dtype in (Dtype.AUTO, Dtype.BF16) and device == "cpu" and not cpu_has_bf16():
        return "float32"
    return str(stored_dtype(config)).removeprefix("torch.")


def stored_dtype(config: ModelConfig) -> torch.dtype:
    """The number format that the model's weights are in, read from its configuration alone."""
    import torch

    if config.dtype is not Dtype.AUTO:
        return getattr(torch, config.dtype.value)  # type: ignore[no-any-return]
    try:
        found = _configuration(config)
    except (OSError, ValueError) as error:
        raise _not_found(config, locate(config), "config", error) from error
    dtype = found.get_text_config().dtype or found.dtype
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def context_length(config: ModelConfig) -> int | None:
    """How many tokens the model takes, read from its configuration alone; None where that does not say."""
    if config.max_length:
        return config.max_length
    try:
        found = _configuration(config)
    except (OSError, ValueError):  # told when it is loaded
        return None
    own = found.get_text_config().to_dict().get("max_position_embeddings")
    return max(int(own), config.positions or 0) if own else None


def _configuration(config: ModelConfig) -> Any:
    from transformers import AutoConfig

    quiet()
    return AutoConfig.from_pretrained(
        locate(config), revision=config.revision, trust_remote_code=config.trust_remote_code
    )


def load_classifier(config: ModelConfig, *, dtype: str | None = None, attention: str = "sdpa") -> PreTrainedModel:
    """A sequence classifier (a difficulty regressor, a reward model) in `dtype`, from safetensors.

    Qwen's reward models need no code of their own (`qwen_reward.py`). Another's, which may be registered under
    `AutoModel` alone, loads with `trust_remote_code` said aloud.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

    from sq.models.qwen_reward import QwenReward

    quiet()
    path = locate(config)
    trusted = {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
    try:
        known = AutoConfig.from_pretrained(path, **trusted)
        registered = known.to_dict().get("auto_map") or {}
        alone = "AutoModel" in registered and "AutoModelForSequenceClassification" not in registered
        kind: Any = AutoModel if alone and config.trust_remote_code else AutoModelForSequenceClassification
        if QwenReward.fits(known):
            kind, trusted = QwenReward, {"revision": config.revision}
        model = kind.from_pretrained(
            path, dtype=dtype or config.dtype.value, attn_implementation=attention, use_safetensors=True, **trusted
        )
    except (OSError, ValueError) as error:
        raise _not_found(config, path, "classifier", error) from error
    return model


def is_scorer(config: ModelConfig) -> bool:
    """Whether the model gives scores (a sequence classifier, a reward model) and no text."""
    return any(name.endswith("ForSequenceClassification") or "Reward" in name for name in architectures(config))


def architectures(config: ModelConfig) -> tuple[str, ...]:
    """What the model's configuration calls its class."""
    try:
        return tuple(_configuration(config).architectures or ())
    except (OSError, ValueError) as error:
        raise _not_found(config, locate(config), "config", error) from error


def fingerprint(config: ModelConfig) -> str:
    """Short digest of the weights and tokenizer, so that rows and caches know exactly which model they mean.

    A local model is hashed by content (files over 2 GiB by their size and evenly spaced samples); a hub model by its
    name and the commit that its revision means now, from the hub or, where it cannot be reached, from the cache.
    """
    path = Path(locate(config))
    if not path.is_dir():
        return hashlib.blake2b(f"{config.path}@{_commit(config)}".encode(), digest_size=6).hexdigest()
    digest = hashlib.blake2b(digest_size=6)
    wanted = ("*.safetensors", "config.json", "tokenizer.json", "tokenizer.model", "chat_template.jinja")
    for file in sorted(p for pattern in wanted for p in path.glob(pattern)):
        digest.update(file.name.encode())
        _hash_file(file, digest)
    return digest.hexdigest()


def _commit(config: ModelConfig) -> str:
    """The commit of a hub model's revision."""
    from transformers.utils import cached_file
    from transformers.utils.hub import extract_commit_hash

    try:
        found = extract_commit_hash(cached_file(config.path, "config.json", revision=config.revision), None)
    except OSError as error:
        raise _not_found(config, config.path, "config", error) from error
    if found is None:
        raise ConfigError(f"model.path={config.path!r}: the commit of its revision {config.revision!r} is not known")
    return str(found)


def _lengthen(model: PreTrainedModel, config: ModelConfig) -> None:
    """Let a model take more positions than it was made for.

    Raises:
        ConfigError: for a model whose positions are not rotary, and which has no more of them.
    """
    own = model.config.get_text_config()
    known = own.to_dict()
    if not (known.get("rope_parameters") or known.get("rope_theta")):
        raise ConfigError(f"model.positions={config.positions}: {config.name} has no rotary positions to go on with")
    if config.positions and config.positions > int(own.max_position_embeddings):
        own.max_position_embeddings = config.positions


def quiet() -> None:
    """No progress bars of files read and written in a second."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def _hash_file(file: Path, digest: Any) -> None:
    size = file.stat().st_size
    with file.open("rb") as handle:
        if size <= FULL_HASH_BYTES:
            while block := handle.read(1 << 20):
                digest.update(block)
            return
        digest.update(str(size).encode())
        for i in range(1024):
            handle.seek(size // 1024 * i)
            digest.update(handle.read(1 << 16))


def _not_found(config: ModelConfig, path: str, what: str, error: Exception) -> ConfigError:
    names = [p.stem for p in (conf_dir() / "model").glob("*.yaml")]
    if not Path(path).is_dir() and not check_hub():
        return ConfigError(
            f"model.path={config.path!r}: its {what} cannot be loaded: there is no directory {path}, the hub's cache "
            f"has none of that name, and {hub_host()} cannot be asked. Fetch it where it can (hf download {path}) and "
            "give the directory as model.path, or take a model that needs no network: model=tiny, tiny-base"
        )
    reason = str(error).strip().splitlines()[0].rstrip(". ") if str(error).strip() else type(error).__name__
    return ConfigError(
        f"model.path={config.path!r}: its {what} cannot be loaded from {path!r}: {reason}. Give a local directory or a "
        f"hub id you can reach, or choose one of model={', '.join(sorted(names))}"
        f"{nearest(path.rpartition('/')[2], names)}"
    )
