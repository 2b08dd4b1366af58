"""How to make this run again: the command, each stage's own command, seed, commit, versions and hardware."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any

from sq.core.count import count_noun
from sq.core.provenance import git_state, hardware, versions
from sq.core.secrets import redact
from sq.report.artifacts import RunArtifacts, StageArtifacts
from sq.report.html import Section, details, join, render, table


def section(artifacts: RunArtifacts) -> Section:
    """The facts and the commands."""
    facts = [[name, plain(value, artifacts)] for name, value in _facts(artifacts).items() if value]
    commands = [command(stage) for stage in artifacts.stages if stage.overrides]
    parts = [table(["what", "value"], facts, caption="The run and the machine of this page", words=2)]
    if commands:
        summary, listing = f"{count_noun(len(commands), 'command')}, one a stage", plain("\n".join(commands), artifacts)
        parts.append(render("commands.html.j2", summary=summary, commands=listing))
    programs = [[name, version] for name, version in versions().items()]
    made = table(["package", "version"], programs, caption="Installed packages that can change a result", words=2)
    parts.append(details("Versions", made))
    says = "The command, seed, commit, versions and hardware that this page was made with."
    return Section(id="environment", title="How to make it again", says=says, body=join(parts))


def command(stage: StageArtifacts) -> str:
    """A stage's own command line."""
    words = [f"{stage.script}.py", *stage.overrides]
    if not any(o.startswith("output_dir=") for o in stage.overrides):
        words.append(f"output_dir={stage.directory}")
    return "python " + shlex.join(words)


def plain(text: str, artifacts: RunArtifacts) -> str:
    """A text without secrets, and without the places of the working directory and the run on this machine."""
    text = redact(text)
    for place in (str(artifacts.directory.resolve().parent), os.getcwd()):
        if place != "/":
            text = text.replace(f"{place}/", "").replace(place, ".")
    return text


def _facts(artifacts: RunArtifacts) -> dict[str, str]:
    recipe, git, machine = artifacts.recipe, git_state(), hardware()
    tracking, run_on = _mapping(recipe.get("tracking")), _mapping(recipe.get("hardware"))
    dirty = " with changes" if git.get("dirty") == "true" else ""
    return {
        "command": str(recipe.get("command") or ""),
        "recipe": str(recipe.get("recipe") or ""),
        "seed": str(recipe.get("seed", "")),
        "domain": str(recipe.get("domain") or (artifacts.domain.name if artifacts.domain else "")),
        "started": str(recipe.get("started") or ""),
        "finished": str(recipe.get("finished") or ""),
        "seconds": f"{recipe['seconds']:,.0f}" if isinstance(recipe.get("seconds"), int | float) else "",
        "run on": _machine(run_on),
        "tracked as": " ".join(str(tracking.get(k) or "") for k in ("experiment", "run_id")).strip(),
        "commit": f"{git['commit'][:12]}{dirty}" if git else "",
        "this machine": f"{machine['cpu']}, {machine['cores']} cores, GPUs: {machine['gpus']}",
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _machine(told: Mapping[str, Any]) -> str:
    gpus = told.get("gpus")
    listed = ", ".join(map(str, gpus)) if isinstance(gpus, list) else str(gpus or "")
    cores = f"{told['cores']} cores" if told.get("cores") else ""
    return ", ".join(part for part in (str(told.get("name") or ""), cores, listed) if part)
