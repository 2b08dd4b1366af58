"""What is installed: Python, the packages that the project asks for, in the versions it is tested with, and extras."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from typing import Any

from sq.doctor.child import ROOT, run
from sq.doctor.finding import MISSING, PROBLEM, Finding

MODULES = {
    "torch": "torch", "numpy": "numpy", "pyarrow": "pyarrow", "transformers": "transformers",
    "lightning": "lightning", "datasets": "datasets", "mlflow": "mlflow", "hydra-core": "hydra",
    "math-verify": "math_verify", "lingua-language-detector": "lingua", "safetensors": "safetensors.torch",
    "bitsandbytes": "bitsandbytes", "peft": "peft", "ray": "ray", "flash-attn": "flash_attn", "gguf": "gguf",
}  # fmt: skip
"""Packages that are imported to see whether they work, with the name they are imported by."""
_PROBE = """
import importlib, json, sys
for name in sys.argv[1:]:
    print(json.dumps({"trying": name}), flush=True)
    try:
        module = importlib.import_module(name)
        facts = {"name": name, "error": None}
        if name == "torch":
            cuda = module.cuda.is_available()
            facts |= {"cuda": cuda, "built": module.version.cuda, "threads": module.get_num_threads(),
                      "devices": [module.cuda.get_device_name(i) for i in range(module.cuda.device_count())],
                      "bf16": bool(cuda and module.cuda.is_bf16_supported())}
            try:
                importlib.import_module("torch.nn.attention.flex_attention")
                facts["flex"] = True
            except Exception:
                facts["flex"] = False
    except BaseException as error:
        facts = {"name": name, "error": f"{type(error).__name__}: {error}"}
    print(json.dumps(facts), flush=True)
"""


@dataclass(kw_only=True)
class ImportResult:
    """What importing showed: findings, and what torch said of the machine."""

    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def python() -> list[Finding]:
    """The interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    return [Finding(name="python", text=f"{version} at {sys.executable}")]


def packages() -> list[Finding]:
    """Each package that is needed, its version against what is asked for and what is tested."""
    return [_needed(requirement) for requirement in requirements()[""]]


def extras(*, has_gpu: bool) -> list[Finding]:
    """Each extra: whole, or what is missing for it."""
    found = []
    for extra, wanted in requirements().items():
        if not extra or (extra == "cpu" and version_of("vllm")):  # vLLM for GPUs is in its place
            continue
        lacking = [_name(r) for r in wanted if version_of(_name(r)) is None]
        if not lacking:
            found.append(Finding(name=extra, text=f"complete ({', '.join(_name(r) for r in wanted)})"))
            continue
        useless = (extra == "cuda" and not has_gpu) or (extra == "cpu" and has_gpu)
        note = " (no use here: there is no GPU)" if extra == "cuda" and useless else " (no use here)" if useless else ""
        fix = "" if useless else _install(extra)
        found.append(Finding(level=MISSING, name=extra, text=f"{', '.join(lacking)}{note}", fix=fix))
    return found


def imports(timeout: float) -> ImportResult:
    """Import every package that is there, in processes of their own; one that dies does not take the others along."""
    waiting = {module: name for name, module in MODULES.items() if version_of(name) is not None}
    loaded = ImportResult()
    while waiting:
        heard = run(_PROBE, *waiting, timeout=timeout)
        said = [json.loads(line) for line in heard.lines if line.startswith("{")]
        done = [facts for facts in said if "name" in facts]
        for facts in done:
            _note(loaded, waiting.pop(facts["name"], facts["name"]), facts)
        trying = [facts["trying"] for facts in said if "trying" in facts]
        if not waiting:
            break
        died = trying[-1] if trying and trying[-1] in waiting else next(iter(waiting))
        _note(loaded, waiting.pop(died), {"name": died, "error": heard.words or f"exit code {heard.code}"})
    if not any(f.level == PROBLEM for f in loaded.findings):
        names = ", ".join(f.name for f in loaded.findings)
        loaded.findings = [Finding(name="all of them", text=names)]
    return loaded


@lru_cache(maxsize=1)
def requirements() -> dict[str, list[str]]:
    """What the project asks for, by extra; "" is what it always needs. From the checkout, else from the package."""
    project = ROOT / "pyproject.toml"
    if project.is_file():
        table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        return {"": table["dependencies"], **table["optional-dependencies"]}
    found: dict[str, list[str]] = {"": []}
    try:
        stated = metadata.requires("sq") or []
    except metadata.PackageNotFoundError:
        stated = []
    for text in stated:
        requirement, _, marker = text.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
        found.setdefault(extra[1] if extra else "", []).append(requirement.strip())
    return found


@lru_cache(maxsize=256)
def version_of(name: str) -> str | None:
    """The installed version of a package, None where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@lru_cache(maxsize=1)
def tested() -> dict[str, str]:
    """The versions that CI tests; none outside a checkout."""
    path = ROOT / "constraints.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    pins = (re.match(r"([\w.-]+)==([^\s;]+)", line) for line in lines)
    return {pin[1].lower().replace("_", "-"): pin[2] for pin in pins if pin}


def fits(version: str, asked: str) -> bool:
    """Whether a version satisfies what is asked for, such as >=2.11,<2.16."""
    for operator, bound in re.findall(r"(==|>=|<=|!=|<|>)\s*([\w.*]+)", asked):
        have, want = _numbers(version), _numbers(bound.rstrip(".*"))
        if operator == "==" and bound.endswith(".*"):
            fine = have[: len(want)] == want
        else:
            width = max(len(have), len(want))
            a, b = have + (0,) * (width - len(have)), want + (0,) * (width - len(want))
            fine = {"==": a == b, ">=": a >= b, "<=": a <= b, "!=": a != b, "<": a < b, ">": a > b}[operator]
        if not fine:
            return False
    return True


def _needed(requirement: str) -> Finding:
    name, asked = _name(requirement), re.sub(r"^[\w.\[\]-]+", "", requirement.partition(";")[0]).strip()
    version = version_of(name)
    if version is None:
        return Finding(level=PROBLEM, name=name, text="not installed", fix=_install(""))
    if not fits(version, asked):
        return Finding(level=PROBLEM, name=name, text=f"{version}, but {asked} is needed", fix=_install(""))
    pin = tested().get(name.lower())
    other = pin is not None and _numbers(pin) != _numbers(version)
    return Finding(name=name, text=f"{version}{f' (tested with {pin})' if other else ''}")


def _note(loaded: ImportResult, package: str, facts: dict[str, Any]) -> None:
    if facts["name"] == "torch":
        loaded.facts = facts
    if facts["error"] is None:
        loaded.findings.append(Finding(name=package, text="loads"))
        return
    needed = package in {_name(r) for r in requirements()[""]}
    fix = f"{sys.executable} -m pip install --force-reinstall {package}" + (
        f"=={p}" if (p := tested().get(package)) else ""
    )
    level = PROBLEM if needed else MISSING
    loaded.findings.append(Finding(level=level, name=package, text=f"does not load: {facts['error'][:300]}", fix=fix))


def _install(extra: str) -> str:
    checkout = (ROOT / "Makefile").is_file()
    if checkout and extra not in ("dev", "cpu"):
        return f"make setup{f' EXTRAS={extra}' if extra else ''}"
    if checkout:
        return "make setup"
    return f"{sys.executable} -m pip install 'sq{f'[{extra}]' if extra else ''}'"


def _name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    return found[0] if found else requirement


def _numbers(version: str) -> tuple[int, ...]:
    public = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in public[0].split(".")) if public else ()
