"""What the entry scripts share: compose with Hydra, build the job, run it, and end in one message when that fails.

A mistake of the user (a wrong override, a value out of range, a missing file) ends in one message and exit code 2,
before any heavy import. Anything that is not an `SqError` is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, get_origin

# Before torch is imported: spinning OpenMP threads on shared cores cost 10x and more.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach us whole; we say what a person needs of them

try:
    import hydra
except ModuleNotFoundError:
    print(f"hydra is not installed for {sys.executable}: make setup, then . .venv/bin/activate", file=sys.stderr)
    sys.exit(2)
from hydra.core.hydra_config import HydraConfig  # noqa: E402
from hydra.core.override_parser.types import Glob, Override  # noqa: E402
from hydra.errors import HydraException  # noqa: E402
from hydra.types import RunMode  # noqa: E402
from omegaconf import DictConfig, open_dict  # noqa: E402
from omegaconf.errors import OmegaConfBaseException  # noqa: E402

from sq.core.compose import check_stage, compose, explain, loosened, plain  # noqa: E402
from sq.core.config import OWN_CONFIGS, build, conf_dir, own_conf_dir, type_hints  # noqa: E402
from sq.core.config_help import show_config, show_groups, stage_problem, stages_of  # noqa: E402
from sq.core.errors import ConfigError, SqError, UnfinishedError, quiet_pipe  # noqa: E402
from sq.core.provenance import remember_command  # noqa: E402
from sq.core.quoting import entry_command  # noqa: E402
from sq.core.rows_domain import with_domain_of_rows  # noqa: E402

if TYPE_CHECKING:
    from sq.core.tracking import Run

log = logging.getLogger(__name__)
NO_LOGGING = ("hydra/job_logging=none", "hydra/hydra_logging=none")
"""Logging is set up here, not by Hydra."""
MAX_NAME = 200
"""Bytes of the name of a job's directory."""


class Job(Protocol):
    """What a root config is: it can be run."""

    def run(self) -> Any:
        """Do the work."""


def main(name: str, job: type[Job], about: str | None) -> None:
    """Run the entry script `name` (its YAML is `conf/NAME.yaml`), whose root config is `job`."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("sq").setLevel(logging.INFO)
    package = job.__module__.rpartition(".")[0]
    remember_command()
    with quiet_pipe(), plain_errors(package):
        arguments = [loosened(a) for a in own_configs(sys.argv[1:])]
        arguments = with_domain_of_rows(name, arguments)
        if {"-h", "--help"} & set(arguments):
            print(help_text(name, package, about or "", [a for a in arguments if "=" in a]))
        elif "--cfg" in arguments and "job" in arguments:
            config = compose(name, [a for a in arguments if a not in ("--cfg", "job")], package)
            print(show_config(plain(config)), end="")
        else:
            check_flags(arguments, job)
            own = own_conf_dir()
            sys.argv[1:] = [*arguments, *NO_LOGGING, *(("--config-dir", str(own)) if own else ())]
            run(name, job, package)


def run(name: str, job: type[Job], package: str) -> None:
    """Hand over to Hydra: one job, or with -m a sweep whose failed jobs do not stop the others."""
    failures: list[SqError] = []
    parents: list[Run] = []

    def task(config: DictConfig) -> None:
        sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        try:
            if sweep:
                parents[:] = parents or [opened.enter_context(sweep_run(config))]
                print_message(join_sweep(config, parents[0]))
            build(config, job).run()
        except SqError as error:
            failures.append(error)
            if sweep:
                print_message(f"job {HydraConfig.get().job.num + 1} ({config.output_dir}): {error}")

    task.__module__ = "__main__"
    check_stage(sys.argv[1:], package)
    with ExitStack() as opened:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(task)()
        for parent in parents if failures else ():
            parent.end("FAILED")
    if failures:
        if len(failures) > 1 or "-m" in sys.argv or "--multirun" in sys.argv:
            print_message(f"{len(failures)} of the sweep's jobs failed; the same command runs those again")
            codes = {f.exit_code for f in failures}
            # 75, "the same command goes on", only where that is true of all
            sys.exit(max(codes - {UnfinishedError.exit_code}, default=UnfinishedError.exit_code))
        raise failures[0]


def own_configs(arguments: Sequence[str]) -> list[str]:
    """The arguments without `--config-dir DIR`, which is kept for all who compose, in other processes too."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", default=os.environ.get(OWN_CONFIGS, ""))
    given, others = parser.parse_known_args(list(arguments))
    os.environ[OWN_CONFIGS] = os.path.abspath(given.config_dir) if given.config_dir else ""
    return others


def help_text(name: str, package: str, about: str, overrides: Sequence[str] = ()) -> str:
    """What `--help` prints: use, groups with their options, every key with its value under these overrides."""
    own = [stage for stage in stages_of(package) if stage_problem(stage, package) is None]
    default = [f"stage={own[0]}"] if own and not any(o.startswith("stage=") for o in overrides) else []
    config = plain(compose(name, [*default, *overrides], package))
    stage = next((o.partition("=")[2] for o in [*default, *overrides] if o.startswith("stage=")), "")
    listed = show_groups(config)
    if own:
        listed = re.sub(r"(  stage= +).*", rf"\1{' '.join(own)}", listed)
    usage = f"{entry_command(name)} {'stage=STAGE ' if own else ''}[GROUP=OPTION ...] [key=value ...]"
    return (
        f"{about.strip()}\n\nUsage: {usage}\n\nGroups, and their options:\n{listed}\n\n"
        f"Every key, with its default{f' (for stage={stage})' if own else ''}; override any as key=value:\n\n"
        f"{show_config(config)}\n"
        "Run the same command again to continue after a kill. -m sweeps over values: -m seed=1,2,3\n"
        "--cfg job prints the configuration as composed from your overrides."
    )


def check_flags(arguments: Sequence[str], job: type[Job]) -> None:
    """An option that Hydra lacks, before its parser answers with a page of usage."""
    from hydra._internal.utils import get_args_parser

    flags = {flag for action in get_args_parser()._actions for flag in action.option_strings}
    for argument, following in pairwise((*arguments, "")):
        flag, _, value = argument.partition("=")
        if argument.startswith("-") and flag not in flags:
            name = flag.lstrip("-").replace("-", "_")
            if name in (kinds := type_hints(job)):
                value = value or ("VALUE" if "=" in following or following.startswith("-") else following or "VALUE")
                written = f"[{value}]" if get_origin(kinds[name]) is list and value[:1] != "[" else value
                raise ConfigError(f"{argument} is no option here; {name} is a setting, give it as {name}={written}")
            raise ConfigError(
                f"{argument} is no option here (--help lists all). Settings are key=value; quote a value with spaces: "
                "'key={a: 1, b: 2}'"
            )


def sweep_run(config: DictConfig) -> AbstractContextManager[Run]:
    """The one run in MLflow under which the jobs of a sweep are."""
    from sq.core.tracking import TrackingConfig, track

    tracking = build(config.tracking, TrackingConfig, key="tracking")
    swept = {"overrides": [a.lstrip("+") for a in sys.argv[1:] if "=" in a]}
    return track(tracking, stage="sweep", params=swept, directory=config.output_dir, identity={"sweep": True})


def join_sweep(config: DictConfig, parent: Run) -> str:
    """In a multirun each job has a directory below `output_dir`, named by what is varied, and a run under `parent`.

    Returns:
        Which job of how many this is, in a line.
    """
    hydra_config, sweep = HydraConfig.get(), Path(config.output_dir)
    params = hydra_config.sweeper.get("params") or {}
    given = [f"{key}={value}" for key, value in params.items()] + _overrides(sys.argv[1:])
    varied, name = varied_in_job(given, hydra_config.overrides.task)
    config.output_dir = str(sweep / (name or f"job-{hydra_config.job.num}"))
    with open_dict(config):
        config.tracking.parent = parent.id
        if name and not config.tracking.get("run_name"):  # told apart in MLflow by what is varied
            config.tracking.run_name = re.sub(r"(^|,)[\w.]+\.(\w+)=", r"\1\2=", name)  # lr, not stage.lr
    return f"job {hydra_config.job.num + 1}{_of_jobs(hydra_config)}: {', '.join(varied)} -> {config.output_dir}"


def _of_jobs(hydra_config: Any) -> str:
    """How many jobs the sweep has, where Hydra's own sweeper makes them all beforehand."""
    sweeper = hydra_config.sweeper
    if not str(sweeper.get("_target_", "")).endswith("BasicSweeper") or sweeper.get("params"):
        return ""
    return of_jobs(_overrides(sys.argv[1:]))


def of_jobs(overrides: Sequence[str]) -> str:
    """How many jobs these overrides are."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    return f" of {sum(map(len, BasicSweeper.split_arguments(_parsed(overrides), None)))}"


def varied_in_job(sweep: Sequence[str], job: Sequence[str]) -> tuple[list[str], str]:
    """The overrides of a job that the sweep varies, and a directory's name of them that no other job has.

    A comma within brackets, braces or quotes varies nothing: Hydra's own grammar decides. The name ends in a hash
    where it is cut, or where two values differ only in what a name leaves out.
    """
    swept = {o.get_key_element().lstrip("+"): o for o in _parsed(sweep) if o.is_sweep_override()}
    varied = [text for o in job if (text := o.lstrip("+")).partition("=")[0] in swept]
    name = ",".join(map(_in_a_name, varied))
    if len(name.encode()) > MAX_NAME or any(map(_has_values_of_one_name, swept.values())):
        code = hashlib.sha256("\n".join(varied).encode()).hexdigest()[:8]
        name = f"{name.encode()[: MAX_NAME - 9].decode(errors='ignore')}-{code}"
    return varied, name


def _has_values_of_one_name(override: Override) -> bool:
    if not override.is_discrete_sweep() or isinstance(override.value(), Glob):  # options have names of their own
        return False
    values = set(override.sweep_string_iterator())
    return len(set(map(_in_a_name, values))) < len(values)


def _in_a_name(text: str) -> str:
    return re.sub(r"[^\w.=+-]+", "-", text)


def _overrides(arguments: Sequence[str]) -> list[str]:
    return [a for a in arguments if "=" in a and not a.startswith("-")]


def _parsed(overrides: Sequence[str]) -> list[Override]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_overrides(list(overrides))


@contextmanager
def plain_errors(package: str) -> Iterator[None]:
    """Errors that a person can fix are printed as a message; the exit code says whose they are."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    except KeyboardInterrupt:
        print_message("stopped. The same command continues where it was.")
        sys.exit(130)
    except SqError as error:
        print_message(f"error: {error}")
        sys.exit(error.exit_code)
    except (HydraException, OmegaConfBaseException) as error:
        print_message(f"error: {explain(error)}")
        sys.exit(2)


def print_message(message: str) -> None:
    """One message to the person at the terminal."""
    print(message, file=sys.stderr)


def _stop(signum: int, frame: object) -> None:
    raise KeyboardInterrupt
