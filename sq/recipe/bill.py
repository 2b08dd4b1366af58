"""The bill of a recipe that was run: real tokens, hours and price, per kept row, with the forecast beside.

Seconds are what the stages took (`recipe.json`, all attempts of a stage together); tokens come from the figures that a
stage keeps, and where it keeps none from its rows and rejects, which name the tokens that each cost. `bill.json` has
all of it; a stage that did not run has no part in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sq.core.errors import ConfigError, LedgerError
from sq.core.files import write_files
from sq.core.ledger import read_manifest, read_rejects, read_rows
from sq.recipe.hardware import HardwareConfig, hardware_here, load_hardware
from sq.recipe.plan import NAME as PLAN
from sq.recipe.plan_text import clock, columns, count, dollars
from sq.recipe.sizes import load_sizes

NAME = "bill.json"
RECIPE = "recipe.json"
TOKENS = {
    "question": ("question_prompt_tokens", "question_tokens"),
    "judge": ("judge_prompt_tokens", "judge_tokens"),
    "rewrite": ("rewrite_prompt_tokens", "rewrite_tokens"),
    "solver": ("solver_prompt_tokens", "solver_tokens"),
    "response": ("response_prompt_tokens", "response_tokens"),
    "prediction": ("prediction_prompt_tokens", "prediction_tokens"),
}
"""The columns of a row that name what it cost, in and out."""
BY_STAGE = {
    "questions": "question", "filter": "judge", "rewrite": "rewrite", "fail_rate": "solver", "answers": "response",
}  # fmt: skip
"""Which of them a stage itself has spent; the others came with the rows it read."""


def bill(directory: str | Path, *, hardware: str | None = None) -> str:
    """Write bill.json into a recipe's directory, and tell it.

    Raises:
        ConfigError: where no recipe was run in it.
    """
    found = make_bill(Path(directory), hardware=hardware)
    write_files(Path(directory), {NAME: (json.dumps(found, indent=1) + "\n").encode()})
    return format_bill(found)


def make_bill(directory: Path, *, hardware: str | None = None) -> dict[str, Any]:
    """The bill as bill.json has it."""
    recipe = _read(directory / RECIPE)
    if recipe is None:
        raise ConfigError(f"{directory} has no {RECIPE}: no recipe was run in it (sq run recipe=NAME)")
    plan = _read(directory / PLAN) or {}
    planned = plan.get("hardware", {})
    device = load_hardware(hardware or planned.get("name") or hardware_here())
    gpus = int(planned.get("gpus") or max(1, len(recipe.get("hardware", {}).get("gpus") or [])))
    stages = [
        _stage(stage, device, gpus, _forecast(stage["name"], plan.get("stages", [])))
        for stage in recipe["stages"]
        if stage.get("seconds") and stage.get("status") != "waiting"
    ]
    sums = ("gpu_hours", "seconds", "cpu_seconds", "price", "tokens_in", "tokens_out")
    total = {key: sum(s[key] or 0 for s in stages) for key in sums}
    kept = _kept(stages)
    return {
        "recipe": recipe["recipe"],
        "status": recipe.get("status"),
        "hardware": {"name": device.name, "gpus": gpus, "price": device.price},
        "currency": "USD",
        "stages": stages,
        "total": {**total, "kept_rows": kept, **_each(total, kept)},
        "wall_seconds": recipe.get("seconds"),
        "forecast": plan.get("total"),
    }


def format_bill(bill: Mapping[str, Any]) -> str:
    """The bill as a person reads it."""
    head = ["stage", "rows", "out", "tokens in", "tokens out", "took", "forecast", "actual / forecast", "cost"]
    rows = [head]
    for stage in bill["stages"]:
        expected = stage["forecast"] and stage["forecast"]["seconds"]
        rows.append([
            stage["name"], count(stage["rows"] or 0), count(stage["kept"] or 0), count(stage["tokens_in"] or 0),
            count(stage["tokens_out"] or 0), clock(stage["seconds"]), clock(expected) if expected else "-",
            f"{stage['seconds'] / expected:.2f}" if expected else "-", dollars(stage["price"]),
        ])  # fmt: skip
    total = bill["total"]
    device = bill["hardware"]
    lines = [f"The bill of {bill['recipe']} on {device['gpus']} x {device['name']}, ${device['price']:.2f} an hour:"]
    lines += columns(rows, left=1)
    lines.append(
        f"total: {clock(total['seconds'])} of stages, {total['gpu_hours']:.3g} device hours, {_money(total['price'])}, "
        f"{count(total['tokens_in'])} tokens in, {count(total['tokens_out'])} out"
        + (f"; {clock(total['cpu_seconds'])} of CPU time" if total.get("cpu_seconds") else "")
    )
    if kept := total["kept_rows"]:
        lines.append(
            f"per kept row ({kept:,}): {total['seconds_per_kept_row']:.3g} s, {_money(total['per_kept_row'])}, "
            f"{total['tokens_per_kept_row']:,.0f} tokens"
        )
    known = [stage for stage in bill["stages"] if stage["forecast"]]
    if expected := sum(stage["forecast"]["seconds"] for stage in known):
        took, price = sum(stage["seconds"] for stage in known), sum(stage["forecast"]["price"] for stage in known)
        lines.append(f"forecast: {clock(expected)}, {_money(price)}; it took {took / expected:.2f} times as long")
    return "\n".join(lines)


def _stage(
    stage: Mapping[str, Any], device: HardwareConfig, gpus: int, forecast: dict[str, Any] | None
) -> dict[str, Any]:
    """One stage: what it took, what it made, and what was forecast."""
    place = Path(stage["output_dir"])
    counts = _counts(stage, place)
    used = gpus if device.gpu and _on_device(stage, forecast) else 0 if device.gpu else 1
    hours = stage["seconds"] * used / 3600
    asked, note = _asked(stage, counts)
    return {
        "name": stage["name"], "stage": stage["name"], "kind": stage.get("stage"), "variant": stage.get("variant"),
        "status": stage.get("status"), **counts, "seconds": stage["seconds"], "cpu_seconds": stage.get("cpu_seconds"),
        "gpu_hours": hours, "price": hours * device.price + asked, "measured": True, "forecast": forecast, "note": note,
    }  # fmt: skip


def _asked(stage: Mapping[str, Any], counts: Mapping[str, Any]) -> tuple[float, str]:
    """Dollars for an API's tokens, and what to say of them."""
    given = _given(stage)
    if given.get("engine") == "oracle":
        return 0.0, "an oracle stood in the model's place"
    if given.get("engine") != "openai":
        return 0.0, ""
    own = [float(given.get(f"engine.price_{way}", 0)) / 1e6 for way in ("in", "out")]
    model = given.get("engine.served") or given.get("model.path") or given.get("model", "")
    price = own if any(own) else load_sizes().price(model.strip("'"))
    return (counts["tokens_in"] or 0) * price[0] + (counts["tokens_out"] or 0) * price[1], f"asked over an API: {model}"


def _given(stage: Mapping[str, Any]) -> dict[str, str]:
    """A stage's overrides by key."""
    return dict(text.partition("=")[::2] for text in stage.get("overrides") or [])


def _on_device(stage: Mapping[str, Any], forecast: Mapping[str, Any] | None) -> bool:
    """Whether the stage held the GPUs: not one that asked an oracle or an API, or no model at all."""
    return stage["script"] != "synthesize" or forecast is None or forecast["gpu_hours"] > 0


def _counts(stage: Mapping[str, Any], place: Path) -> dict[str, Any]:
    """Rows in, rows kept, tokens in and out of a stage's directory."""
    none = {"rows": None, "kept": None, "rejects": None, "tokens_in": None, "tokens_out": None}
    if (trained := _read(place / "train.json")) is not None:
        return {**none, "rows": trained.get("rows"), "tokens_in": trained.get("tokens")}
    if stage["script"] == "evaluate":
        ledgers = sorted(path.parent for path in place.glob("*/answers*/manifest.json"))
    else:
        ledgers = [place] if (place / "manifest.json").is_file() else []
    try:
        manifests = [read_manifest(ledger) for ledger in ledgers]
    except LedgerError:
        return none
    if not manifests:
        return none
    name = str(manifests[0].config.get("stage.name") or "")
    kind = "prediction" if stage["script"] == "evaluate" else BY_STAGE.get(name, "")
    oracle = _given(stage).get("engine") == "oracle"
    tokens_in, tokens_out = _usage(place, oracle) or _tokens(ledgers, "" if oracle else kind)
    kept = sum(m.rows for m in manifests)
    rows, rejects = sum(m.items for m in manifests), sum(m.rejects for m in manifests)
    return {"rows": rows, "kept": kept, "rejects": rejects, "tokens_in": tokens_in, "tokens_out": tokens_out}


def _usage(place: Path, oracle: bool) -> tuple[float, float] | None:
    """What the stage's own figures say was asked, again after a kill included; None where it keeps none.

    What an oracle was asked is no model's tokens; what a scorer read beside it is.
    """
    usage = (_read(place / "figures.json") or {}).get("usage")
    if not usage or not any(usage.values()):
        return None
    scored = usage.get("usage/scored_tokens", 0.0)
    if oracle:
        return scored, 0.0
    return usage.get("usage/prompt_tokens", 0.0) + scored, usage.get("usage/output_tokens", 0.0)


def _tokens(ledgers: Iterable[Path], kind: str) -> tuple[float, float]:
    """Tokens of a stage's own work by its rows and rejects. Rows of one prompt name it each, but it was read once."""
    if not kind:
        return 0.0, 0.0
    read, written = TOKENS[kind]
    total_in = total_out = 0.0
    for ledger in ledgers:
        rejects = (json.loads(reject["row"]) for reject in read_rejects(ledger, verify=False, unfinished=True))
        for rows in (read_rows(ledger, verify=False, unfinished=True), rejects):
            for row in rows:
                first = not (row.get("response_index") or row.get("sample") or 0)
                total_in += (row.get(read) or 0) if first else 0
                total_out += row.get(written) or 0
    return total_in, total_out


def _forecast(name: str, lines: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The lines of the plan that belong to a stage, as one."""
    own = [line for line in lines if line["stage"] == name]
    if not own:
        return None
    summed = {k: sum(line[k] for line in own) for k in ("tokens_in", "tokens_out", "gpu_hours", "seconds", "price")}
    return {"rows": own[0]["rows"], "kept": own[-1]["kept"], **summed}


def _kept(stages: Sequence[Mapping[str, Any]]) -> int:
    """Rows of the dataset: what the choices among answers kept, but no more than the largest student learnt from."""
    made = [s for s in stages if s["kept"] is not None and s["kind"] is not None]
    chosen = sum(s["kept"] for s in made if s["kind"] == "select")
    most = max((s["rows"] or 0 for s in stages if s["kind"] == "sft"), default=0)
    return int(min(chosen, most) if chosen and most else chosen or (made[-1]["kept"] if made else 0))


def _each(total: Mapping[str, float], kept: int) -> dict[str, float | None]:
    """The total for one kept row."""
    tokens = total["tokens_in"] + total["tokens_out"]
    return {
        "per_kept_row": total["price"] / kept if kept else None,
        "seconds_per_kept_row": total["seconds"] / kept if kept else None,
        "tokens_per_kept_row": tokens / kept if kept else None,
    }


def _money(value: float) -> str:
    return f"${value:,.2f}" if value >= 1 else f"${value:.3g}"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
