"""What the entry scripts share: compose with Hydra, build the job, run it, and speak plainly when that fails.

A slip of the user (a wrong override, a value out of range, a missing file) ends in one message and exit code 2, before
any heavy import. Anything that is not an `SqError` is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

# Before torch is imported: spinning OpenMP threads on shared cores cost 10x and more.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach us whole; we say what a person needs of them

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from sq.core.config import build, conf_dir, nearest
from sq.core.errors import ConfigError, SqError


class Job(Protocol):
    """What a root config is: it can be run."""

    def run(self) -> Any:
        """Do the work."""


def main(name: str, job: type[Job]) -> None:
    """Run the entry script `name` (its YAML is `conf/NAME.yaml`), whose root config is `job`."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "urllib3", "alembic", "filelock", "fsspec"):
        logging.getLogger(noisy).setLevel(logging.WARNING)

    def task(config: DictConfig) -> Any:
        place_output(config)
        return build(config, job).run()

    task.__module__ = "__main__"
    with plain_errors(name):
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(task)()


def place_output(config: DictConfig) -> None:
    """In a multirun each job gets a directory of its own below `output_dir`, named by its overrides."""
    hydra_config = HydraConfig.get()
    if hydra_config.mode != RunMode.MULTIRUN:
        return
    overrides = [o for o in hydra_config.overrides.task if not o.startswith("output_dir=")]
    sweep = {k for k, v in (o.split("=", 1) for o in _sweep_arguments() if "=" in o) if "," in v or "(" in v}
    varied = [o for o in overrides if o.split("=", 1)[0] in sweep] or overrides
    name = ",".join(re.sub(r"[^\w.=+-]+", "-", o) for o in varied)
    with open_dict(config):
        config.output_dir = str(Path(config.output_dir) / (name[:200] or f"job-{hydra_config.job.num}"))


@contextmanager
def plain_errors(name: str) -> Iterator[None]:
    """Errors that a person can mend are printed as a message; the exit code says whose they are."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    except KeyboardInterrupt:
        sys.exit("\nstopped. The same command continues where it was.")
    except SqError as error:
        _say(str(error))
        sys.exit(error.exit_code)
    except (HydraException, OmegaConfBaseException) as error:
        _say(explain(error, name))
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def explain(error: Exception, name: str) -> str:
    """Hydra's and OmegaConf's errors in the words of this project: key, value, what is allowed, nearest name."""
    text = "\n".join(dict.fromkeys(str(e).strip() for e in (error, error.__cause__) if e is not None and str(e).strip()))
    if found := re.search(r"Could not find '(\w+)/(.+?)'", text):
        group, option = found.groups()
        options = sorted(p.stem for p in (conf_dir() / group).glob("*.yaml"))
        return f"{group}={option} is not one of {', '.join(options)}{nearest(option, options)}"
    if found := re.search(r"You must specify '(.+?)', e\.g, .*\nAvailable options:\n((?:\s*\S+\n?)+)", text):
        group, listed = found.groups()
        return f"{group}= must be given: one of {', '.join(listed.split())}"
    if found := re.search(r"Could not override '(.+?)'|Key '(.+?)' is not in struct", text):
        return _unknown_key(found.group(1) or found.group(2), name)
    if found := re.search(r"Could not (?:override|append).*?\n?.*?group '(.+?)'", text):
        return f"there is no group '{found.group(1)}'{nearest(found.group(1), _groups())}"
    if "mismatched input" in text or "extraneous input" in text or "no viable alternative" in text or "token recognition" in text:
        first = text.splitlines()[0]
        return f"an override cannot be read: {first}\nOverrides are key=value; quote values with special characters: 'key=\"a,b\"'"
    return text


def _unknown_key(key: str, name: str) -> str:
    from hydra import compose
    from hydra.core.global_hydra import GlobalHydra

    known: list[str] = _groups()
    try:
        if not GlobalHydra.instance().is_initialized():
            hydra.initialize_config_dir(str(conf_dir()), version_base="1.3")
        config = compose(name, overrides=[a for a in _sweep_arguments() if a.split("=")[0] in _groups() and "," not in a])
        known += list(_keys(OmegaConf.to_container(config, resolve=False)))
    except (HydraException, OmegaConfBaseException):
        pass
    near = nearest(key, known)
    return f"unknown key '{key}'{near or '.'} `--cfg job` shows every key there is"


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for name, child in node.items():
            yield f"{prefix}{name}"
            yield from _keys(child, f"{prefix}{name}.")


def _groups() -> list[str]:
    return sorted(p.name for p in conf_dir().iterdir() if p.is_dir())


def _sweep_arguments() -> list[str]:
    return [a for a in sys.argv[1:] if not a.startswith("-")]


def _say(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)


def _stop(signum: int, frame: object) -> None:
    raise KeyboardInterrupt
