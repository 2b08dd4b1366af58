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
from sq.doctor.finding import Finding, missing, ok, problem

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
            facts |= {"cuda": cuda, "built": module.version.cuda}
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


def python() -> Finding:
    """The interpreter."""
    return ok("python", f"{'.'.join(map(str, sys.version_info[:3]))} at {sys.executable}")


def packages() -> list[Finding]:
    """Each package that is needed, its version against what is asked for and what is tested."""
    return [_needed(requirement) for requirement in requirements()[""]]


def extras(*, has_gpu: bool) -> list[Finding]:
    """Each extra: whole, or what is missing for it."""
    findings = []
    for extra, wanted in requirements().items():
        if not extra or (extra == "cpu" and version_of("vllm")):  # vLLM for GPUs is in its place
            continue
        lacking = [_name(r) for r in wanted if version_of(_name(r)) is None]
        if not lacking:
            findings.append(ok(extra, f"complete ({', '.join(map(_name, wanted))})"))
        elif extra == ("cpu" if has_gpu else "cuda"):
            why = "" if has_gpu else ": there is no GPU"
            findings.append(missing(extra, f"{', '.join(lacking)} (no use here{why})"))
        else:
            findings.append(missing(extra, ", ".join(lacking), _install(extra)))
    return findings


def imports(timeout: float) -> ImportResult:
    """Import every package that is there, in processes of their own; one that dies does not take the others along."""
    waiting = {module: name for name, module in MODULES.items() if version_of(name) is not None}
    result = ImportResult()
    while waiting:
        child = run(_PROBE, *waiting, timeout=timeout)
        reports = [json.loads(line) for line in child.lines if line.startswith("{")]
        for facts in reports:
            if "name" in facts:
                _note_import(result, waiting.pop(facts["name"], facts["name"]), facts)
        if waiting:
            trying = [facts["trying"] for facts in reports if facts.get("trying") in waiting]
            died = trying[-1] if trying else next(iter(waiting))
            _note_import(result, waiting.pop(died), {"name": died, "error": child.error})
    if not any(f.level == "problem" for f in result.findings):
        result.findings = [ok("all of them", ", ".join(f.name for f in result.findings))]
    return result


@lru_cache(maxsize=1)
def requirements() -> dict[str, list[str]]:
    """What the project asks for, by extra; "" is what it always needs. From the checkout, else from the package."""
    project = ROOT / "pyproject.toml"
    if project.is_file():
        table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        return {"": table["dependencies"], **table["optional-dependencies"]}
    by_extra: dict[str, list[str]] = {"": []}
    try:
        stated = metadata.requires("sq") or []
    except metadata.PackageNotFoundError:
        stated = []
    for text in stated:
        requirement, _, marker = text.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
        by_extra.setdefault(extra[1] if extra else "", []).append(requirement.strip())
    return by_extra


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
        if bound.endswith(".*"):
            have = have[: len(want)]
        width = max(len(have), len(want))
        a, b = have + (0,) * (width - len(have)), want + (0,) * (width - len(want))
        if not {"==": a == b, ">=": a >= b, "<=": a <= b, "!=": a != b, "<": a < b, ">": a > b}[operator]:
            return False
    return True


def _needed(requirement: str) -> Finding:
    name, asked = _name(requirement), re.sub(r"^[\w.\[\]-]+", "", requirement.partition(";")[0]).strip()
    version, pin = version_of(name), tested().get(name.lower())
    if version is None:
        return problem(name, "not installed", _install(""))
    if not fits(version, asked):
        return problem(name, f"{version}, but {asked} is needed", _install(""))
    other = pin is not None and _numbers(pin) != _numbers(version)
    return ok(name, f"{version}{f' (tested with {pin})' if other else ''}")


def _note_import(result: ImportResult, package: str, facts: dict[str, Any]) -> None:
    if facts["name"] == "torch":
        result.facts = facts
    if facts["error"] is None:
        result.findings.append(ok(package, "loads"))
        return
    pin = f"=={tested()[package]}" if package in tested() else ""
    level = problem if package in map(_name, requirements()[""]) else missing
    fix = f"{sys.executable} -m pip install --force-reinstall {package}{pin}"
    result.findings.append(level(package, f"does not load: {facts['error'][:300]}", fix))


def _install(extra: str) -> str:
    if (ROOT / "Makefile").is_file():
        return f"make setup EXTRAS={extra}" if extra not in ("", "dev", "cpu") else "make setup"
    return f"{sys.executable} -m pip install 'sq{f'[{extra}]' if extra else ''}'"


def _name(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    return match[0] if match else requirement


def _numbers(version: str) -> tuple[int, ...]:
    public = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in public[0].split(".")) if public else ()
