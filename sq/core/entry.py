"""What the entry scripts share: compose with Hydra, build the job, run it, and speak plainly when that fails.

A mistake of the user (a wrong override, a value out of range, a missing file) ends in one message and exit code 2,
before any heavy import. Anything that is not an `SqError` is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

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
from hydra.errors import HydraException, OverrideParseException  # noqa: E402
from hydra.types import RunMode  # noqa: E402
from omegaconf import DictConfig, OmegaConf, open_dict  # noqa: E402
from omegaconf.errors import OmegaConfBaseException  # noqa: E402

from sq.core.config import build, conf_dir, nearest  # noqa: E402
from sq.core.config_help import groups, show_config, show_groups, stage_problem, stages_of  # noqa: E402
from sq.core.errors import ConfigError, SqError  # noqa: E402

log = logging.getLogger(__name__)


class Job(Protocol):
    """What a root config is: it can be run."""

    def run(self) -> Any:
        """Do the work."""


def main(name: str, job: type[Job], about: str | None) -> None:
    """Run the entry script `name` (its YAML is `conf/NAME.yaml`), whose root config is `job`."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("sq").setLevel(logging.INFO)
    package = job.__module__.rpartition(".")[0]
    arguments = [loosened(a) for a in sys.argv[1:]]
    with plain_errors(package):
        if {"-h", "--help"} & set(arguments):
            print(help_text(name, package, about or ""))
        elif "--cfg" in arguments and "job" in arguments:
            print(show_config(composed(name, [a for a in arguments if a not in ("--cfg", "job")], package)), end="")
        else:
            check_flags(arguments)
            sys.argv[1:] = arguments
            run(name, job, package)


def run(name: str, job: type[Job], package: str) -> None:
    """Hand over to Hydra: one job, or with -m a sweep whose failed jobs do not stop the others."""
    failures: list[SqError] = []

    def task(config: DictConfig) -> None:
        sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        try:
            if sweep:
                join_sweep(config)
            build(config, job).run()
        except SqError as error:
            failures.append(error)
            if sweep:
                print_message(f"job {HydraConfig.get().job.num} ({config.output_dir}): {error}")

    task.__module__ = "__main__"
    check_stage(sys.argv[1:], package)
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(task)()
    if failures:
        if len(failures) > 1 or "-m" in sys.argv or "--multirun" in sys.argv:
            print_message(f"{len(failures)} of the sweep's jobs failed; the same command runs those again")
            sys.exit(max(f.exit_code for f in failures))
        raise failures[0]


def composed(name: str, overrides: Sequence[str], package: str) -> dict[str, Any]:
    """The configuration with these overrides, as plain values; interpolations stay as written.

    Raises:
        ConfigError: for overrides that cannot be composed.
    """
    check_stage(overrides, package)
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = hydra.compose(name, overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error)) from error
    return dict(OmegaConf.to_container(config, resolve=False))  # type: ignore[arg-type]


def help_text(name: str, package: str, about: str) -> str:
    """What `--help` prints: use, groups with their options, every key with its default and meaning."""
    own = stages_of(package)
    stage = [f"stage={own[0]}"] if own else []
    config = composed(name, stage, package)
    listed = show_groups(config)
    if own:
        listed = re.sub(r"(  stage= +).*", rf"\1{' '.join(own)}", listed)
    usage = f"python {name}.py {'stage=STAGE ' if own else ''}[GROUP=OPTION ...] [key=value ...]"
    return (
        f"{about.strip()}\n\nUsage: {usage}\n\nGroups, and their options:\n{listed}\n\n"
        f"Every key, with its default{f' (for stage={own[0]})' if own else ''}; override any as key=value:\n\n"
        f"{show_config(config)}\n"
        "Run the same command again to continue after a kill. -m sweeps over values: -m seed=1,2,3\n"
        "--cfg job prints the configuration as composed from your overrides."
    )


def loosened(argument: str) -> str:
    """`key=value` may set any key that the config's dataclass has, whether or not the YAML mentions it.

    Hydra would ask for a plus sign. An unknown key is found later, with all other problems, by `build`.
    """
    key, equals, _ = argument.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][\w.]*", key) or key in groups():
        return argument
    return f"++{argument}"


def check_flags(arguments: Sequence[str]) -> None:
    """An option that Hydra lacks, before its parser answers with a page of usage."""
    from hydra._internal.utils import get_args_parser

    known = {flag for action in get_args_parser()._actions for flag in action.option_strings}
    for argument in arguments:
        if argument.startswith("-") and argument.partition("=")[0] not in known:
            raise ConfigError(
                f"{argument} is no option here (--help lists all). Settings are key=value; quote a value with spaces: "
                "'key={a: 1, b: 2}'"
            )


def check_stage(overrides: Sequence[str], package: str) -> None:
    """A stage of another script, or none at all, is told before Hydra composes anything."""
    own = stages_of(package)
    given = [o.partition("=")[2] for o in overrides if o.startswith("stage=")]
    if own and not given:
        raise ConfigError(f"stage= must be given: one of {', '.join(own)}")
    for stage in (s.strip() for text in given for s in text.split(",")):
        if own and (problem := stage_problem(stage, package)):
            raise ConfigError(problem)


def join_sweep(config: DictConfig) -> None:
    """In a multirun each job has a directory below `output_dir`, named by what is varied, and one parent in MLflow."""
    from sq.core.tracking import TrackingConfig, multirun_parent

    hydra_config, sweep = HydraConfig.get(), Path(config.output_dir)
    swept = {a.lstrip("+").partition("=")[0] for a in sys.argv[1:] if re.search(r"=.*(,|\()", a)}
    varied = [o.lstrip("+") for o in hydra_config.overrides.task if o.lstrip("+").partition("=")[0] in swept]
    name = ",".join(re.sub(r"[^\w.=+-]+", "-", o) for o in varied)
    config.output_dir = str(sweep / (name[:200] or f"job-{hydra_config.job.num}"))
    sweep.mkdir(parents=True, exist_ok=True)
    parent = multirun_parent(build(config.tracking, TrackingConfig, key="tracking"), sweep)
    with open_dict(config):
        config.tracking.parent = parent
        if name and not config.tracking.get("run_name"):  # told apart in MLflow by what is varied
            config.tracking.run_name = re.sub(r"(^|,)[\w.]+\.(\w+)=", r"\1\2=", name)[:200]  # lr, not stage.lr


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
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def explain(error: Exception) -> str:
    """Hydra's and OmegaConf's errors in the words of this project: key, value, what is allowed, nearest name."""
    text = "\n".join(
        dict.fromkeys(str(e).strip() for e in (error, error.__cause__) if e is not None and str(e).strip())
    )
    if found := re.search(r"Could not (?:find|load) '(\w+)/(.+?)'", text):
        group, option = found.groups()
        options = groups().get(group, [])
        return f"{group}={option} is not one of {', '.join(options)}{nearest(option, options)}"
    if found := re.search(r"Could not override '(.+?)'", text):
        return f"{found[1]}= is no setting of this script; --help lists those it has"
    if re.search(r"mismatched input|extraneous input|no viable alternative|token recognition", text):
        return (
            f"{_override(error)} cannot be read: {text.splitlines()[0].replace('++', '')}\n"
            "Overrides are key=value; quote a value with special characters: 'key=\"a,b\"'"
        )
    if found := re.search(r"Ambiguous value for argument '\+*(.+?)'", text):
        return f"{found[1]}: several values need -m (a sweep); as one list write key=[a,b], as one text key='\"a,b\"'"
    return text


def _override(error: Exception) -> str:
    return str(error.override).lstrip("+") if isinstance(error, OverrideParseException) else "an override"


def print_message(message: str) -> None:
    """One message to the person at the terminal."""
    print(message, file=sys.stderr)


def _stop(signum: int, frame: object) -> None:
    raise KeyboardInterrupt
