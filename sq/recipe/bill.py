"""The bill of a recipe that was run: real tokens, hours and price, per kept row, with the forecast beside.

Seconds are what the stages took (`recipe.json`, all attempts of a stage together); tokens are those that a stage's
engine was asked for (`figures.json`, again after a kill too), of an evaluation those that its rows name. A stage that
did not run has no part in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sq.core.count import clock, columns, dollars, short
from sq.core.errors import ConfigError, LedgerError
from sq.core.files import read_json, write_files
from sq.core.ledger import read_manifest, read_rejects, read_rows
from sq.recipe.hardware import HardwareConfig, hardware_here, load_hardware
from sq.recipe.plan import NAME as PLAN
from sq.recipe.sizes import load_sizes

NAME = "bill.json"
RECIPE = "recipe.json"


def bill(directory: str | Path, *, hardware: str | None = None) -> str:
    """Write bill.json into a recipe's directory; the bill as text."""
    document = make_bill(Path(directory), hardware=hardware)
    write_files(Path(directory), {NAME: (json.dumps(document, indent=1) + "\n").encode()})
    return format_bill(document)


def make_bill(directory: Path, *, hardware: str | None = None) -> dict[str, Any]:
    """The bill as bill.json has it."""
    recipe = read_json(directory / RECIPE)
    if not recipe:
        raise ConfigError(f"{directory} has no {RECIPE}: no recipe was run in it (sq run recipe=NAME)")
    plan = read_json(directory / PLAN)
    planned = plan.get("hardware", {})
    device = load_hardware(hardware or planned.get("name") or hardware_here())
    gpus = int(planned.get("gpus") or max(1, len(recipe.get("hardware", {}).get("gpus") or [])))
    stages = [
        _stage(stage, device, gpus, _forecast(stage["name"], plan.get("stages", [])))
        for stage in recipe["stages"]
        if stage.get("seconds") and stage.get("status") != "waiting"
    ]
    sums = ("gpu_hours", "seconds", "cpu_seconds", "price", "tokens_in", "tokens_out")
    total = {key: sum(stage[key] or 0 for stage in stages) for key in sums}
    kept = _kept_rows(stages)
    per_row = {
        "per_kept_row": total["price"] / kept if kept else None,
        "seconds_per_kept_row": total["seconds"] / kept if kept else None,
        "tokens_per_kept_row": (total["tokens_in"] + total["tokens_out"]) / kept if kept else None,
    }
    return {
        "recipe": recipe["recipe"],
        "status": recipe.get("status"),
        "hardware": {"name": device.name, "gpus": gpus, "price": device.price},
        "currency": "USD",
        "stages": stages,
        "total": {**total, "kept_rows": kept, **per_row},
        "wall_seconds": recipe.get("seconds"),
        "forecast": plan.get("total"),
    }


def format_bill(bill: Mapping[str, Any]) -> str:
    """The bill as a person reads it."""
    rows = [["stage", "rows", "out", "tokens in", "tokens out", "took", "forecast", "actual / forecast", "cost"]]
    for stage in bill["stages"]:
        expected = stage["forecast"] and stage["forecast"]["seconds"]
        rows.append([
            stage["name"], *(short(stage[key] or 0) for key in ("rows", "kept", "tokens_in", "tokens_out")),
            clock(stage["seconds"]), clock(expected) if expected else "-",
            f"{stage['seconds'] / expected:.2f}" if expected else "-", dollars(stage["price"]),
        ])  # fmt: skip
    total, device = bill["total"], bill["hardware"]
    lines = [f"The bill of {bill['recipe']} on {device['gpus']} x {device['name']}, ${device['price']:.2f} an hour:"]
    lines += columns(rows, left=1)
    lines.append(
        f"total: {clock(total['seconds'])} of stages, {total['gpu_hours']:.3g} device hours, "
        f"{dollars(total['price'])}, {short(total['tokens_in'])} tokens in, {short(total['tokens_out'])} out"
        + (f"; {clock(total['cpu_seconds'])} of CPU time" if total.get("cpu_seconds") else "")
    )
    if kept := total["kept_rows"]:
        lines.append(
            f"per kept row ({kept:,}): {total['seconds_per_kept_row']:.3g} s, {dollars(total['per_kept_row'])}, "
            f"{total['tokens_per_kept_row']:,.0f} tokens"
        )
    forecast = [stage for stage in bill["stages"] if stage["forecast"]]
    if expected := sum(stage["forecast"]["seconds"] for stage in forecast):
        took, price = sum(s["seconds"] for s in forecast), sum(s["forecast"]["price"] for s in forecast)
        lines.append(f"forecast: {clock(expected)}, {dollars(price)}; it took {took / expected:.2f} times as long")
    return "\n".join(lines)


def _stage(
    stage: Mapping[str, Any], device: HardwareConfig, gpus: int, forecast: dict[str, Any] | None
) -> dict[str, Any]:
    """One stage: what it took, what it made, and what was forecast."""
    overrides = dict(text.partition("=")[::2] for text in stage.get("overrides") or [])
    counts = _counts(stage, Path(stage["output_dir"]), overrides.get("engine") == "oracle")
    if forecast and forecast["window"] > 1 and counts["rows"]:  # items of the ledger until here
        counts["rows"] = round(counts["rows"] * forecast["window"])
    hours = _gpu_hours(stage, gpus, forecast) if device.gpu else stage["seconds"] / 3600
    asked, note = _api_price(
        overrides, counts, read_json(Path(stage["output_dir"]) / "figures.json").get("usage") or {}
    )
    return {
        "name": stage["name"], "stage": stage["name"], "kind": stage.get("stage"), "variant": stage.get("variant"),
        "status": stage.get("status"), **counts, "seconds": stage["seconds"], "cpu_seconds": stage.get("cpu_seconds"),
        "gpu_hours": hours, "price": hours * device.price + asked, "measured": True, "forecast": forecast, "note": note,
    }  # fmt: skip


def _gpu_hours(stage: Mapping[str, Any], gpus: int, forecast: Mapping[str, Any] | None) -> float:
    """GPU hours by the GPUs that the stage had; a record of an earlier version does not say, and the forecast does."""
    if stage.get("gpu_seconds") is not None:
        return float(stage["gpu_seconds"]) / 3600
    if forecast is not None and not forecast["gpu_hours"]:  # it asked an oracle or an API, or no model at all
        return 0.0
    return float(stage["seconds"] * (forecast or {}).get("gpus", gpus) / 3600)


def _api_price(
    overrides: Mapping[str, str], counts: Mapping[str, Any], usage: Mapping[str, float]
) -> tuple[float, str]:
    """Dollars for the tokens of the stage's models behind an API, and a note on them."""
    engines = [key.rpartition("@")[2].lstrip("+") for key, value in overrides.items() if value == "openai"]
    if not engines:
        return 0.0, "an oracle stood in the model's place" if overrides.get("engine") == "oracle" else ""
    engine = engines[0]
    own = [float(overrides.get(f"{engine}.price_{way}", 0)) / 1e6 for way in ("in", "out")]
    model = overrides.get(f"{engine}.served") or overrides.get("model.path") or overrides.get("model", "")
    note = f"asked over an API: {model}"
    if dollars := usage.get("usage/api_dollars"):
        return dollars, note
    price = own if any(own) else load_sizes().price(model.strip("'"))
    # a directory of an earlier version does not say which tokens were an API's; an evaluation's rows name them
    tokens = [usage.get(f"usage/api_{way}_tokens") for way in ("prompt", "output")]
    if None in tokens:
        scored = usage.get("usage/scored_tokens", 0.0)
        tokens = [max((counts["tokens_in"] or 0) - scored, 0.0), counts["tokens_out"] or 0]
    return sum(count * dollars for count, dollars in zip(tokens, price, strict=True) if count), note


def _counts(stage: Mapping[str, Any], place: Path, oracle: bool) -> dict[str, Any]:
    """Rows in, rows kept, tokens in and out of a stage's directory."""
    counts = dict.fromkeys(("rows", "kept", "rejects", "tokens_in", "tokens_out"))
    if training := read_json(place / "train.json"):
        return {**counts, "rows": training.get("rows"), "tokens_in": training.get("tokens")}
    evaluation = stage["script"] == "evaluate"
    paths = sorted(place.glob("*/answers*/manifest.json")) if evaluation else [place / "manifest.json"]
    try:
        manifests = [read_manifest(path.parent) for path in paths if path.is_file()]
    except LedgerError:
        return counts
    if not manifests:
        return counts
    tokens = _tokens_of_rows(path.parent for path in paths) if evaluation else _tokens_asked(place, oracle)
    return {
        "rows": sum(m.items for m in manifests),
        "kept": sum(m.rows for m in manifests),
        "rejects": sum(m.rejects for m in manifests),
        "tokens_in": tokens[0],
        "tokens_out": tokens[1],
    }


def _tokens_asked(place: Path, oracle: bool) -> tuple[float, float]:
    """Tokens in and out by the stage's own metrics. An oracle's are no model's; what a scorer read beside it is."""
    usage = read_json(place / "figures.json").get("usage") or {}
    prompt, output, scored = (usage.get(f"usage/{name}_tokens", 0.0) for name in ("prompt", "output", "scored"))
    return (scored, 0.0) if oracle else (prompt + scored, output)


def _tokens_of_rows(ledgers: Iterable[Path]) -> tuple[float, float]:
    """Tokens of an evaluation's answers and rejects. Samples of one prompt name it each, but it was read once."""
    total_in = total_out = 0.0
    for ledger in ledgers:
        rejects = (json.loads(reject["row"]) for reject in read_rejects(ledger, verify=False, unfinished=True))
        for rows in (read_rows(ledger, verify=False, unfinished=True), rejects):
            for row in rows:
                total_in += 0 if row.get("sample") else row.get("prediction_prompt_tokens") or 0
                total_out += row.get("prediction_tokens") or 0
    return total_in, total_out


def _forecast(name: str, lines: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The lines of the plan that belong to a stage, as one."""
    own = [line for line in lines if line["stage"] == name]
    if not own:
        return None
    sums = {k: sum(line[k] for line in own) for k in ("tokens_in", "tokens_out", "gpu_hours", "seconds", "price")}
    gpus = {"gpus": max(line["gpus"] for line in own)} if all("gpus" in line for line in own) else {}
    rows = own[0]["rows"]
    window = rows / own[0].get("items", rows) if rows else 1.0
    return {"rows": rows, "window": window, "kept": own[-1]["kept"], **gpus, **sums}


def _kept_rows(stages: Sequence[Mapping[str, Any]]) -> int:
    """Rows of the dataset: what the choices among answers kept, but no more than the largest student learnt from."""
    of_rows = [s for s in stages if s["kept"] is not None and s["kind"] is not None]
    chosen = sum(s["kept"] for s in of_rows if s["kind"] == "select")
    most = max((s["rows"] or 0 for s in stages if s["kind"] == "sft"), default=0)
    return int(min(chosen, most) if chosen and most else chosen or (of_rows[-1]["kept"] if of_rows else 0))
