"""A whole recipe beside itself, `sq run` ended by `kill -9` at random moments: the same rows, rejects and weights.

    python benchmarks/kills_recipe.py demo [--kills 10] [--calm DIRECTORY] [--where DIRECTORY] [scale=0.5 ...]

Both run as a user would start them, with MLflow, in directories of their own. `--calm` names the directory in which the
same recipe came to its end before. A kill takes the process group of `sq run`; its stages die with it. Then the same
command goes on. Whatever a ledger holds must be the same but for the ids of runs, every weight the same bit for bit,
and so the figures of the ablation; else the exit code is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kills import content

from sq.core.ledger import read_manifest

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run both, compare, print; 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a recipe's name or file")
    parser.add_argument("settings", nargs="*", help="as of `sq run`: scale=0.5 parallel=1")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--calm", type=Path, help="where the same recipe has come to its end; else it is run first")
    parser.add_argument("--where", type=Path, help="keep everything here")
    asked = parser.parse_args()
    recipe = asked.recipe if Path(asked.recipe).suffix == "" else str(Path(asked.recipe).resolve())
    command = [sys.executable, "-m", "sq.cli", "run", f"recipe={recipe}", *asked.settings]
    with tempfile.TemporaryDirectory() as made:
        where = asked.where or Path(made)
        calm = asked.calm or where / "calm"
        if asked.calm is None:
            _until_done(command, calm, [])
        rng = random.Random(asked.seed)
        begun = time.monotonic()
        stages = _record(calm)["stages"]
        moments = sorted((rng.randrange(len(stages)), rng.uniform(0.0, 20.0)) for _ in range(asked.kills))
        killed = _until_done(command, where / "killed", moments)
        seconds = time.monotonic() - begun
        return _compared(calm, where / "killed", killed, seconds)


def _until_done(command: list[str], place: Path, moments: list[tuple[int, float]]) -> list[str]:
    """Kill the command some seconds after so many stages are done, and start it again, until it comes to its end.

    Moments are told by stages, not by the clock, so that they lie all over the recipe however busy the machine is.
    """
    place.mkdir(parents=True, exist_ok=True)
    killed: list[str] = []
    with open(place / "said.log", "a") as said:
        for moment in [*moments, None]:
            process = subprocess.Popen(
                command, cwd=place, stdout=said, stderr=said, start_new_session=True, env=_environment()
            )
            if not _comes(process, place, moment):
                if process.wait():
                    sys.exit(f"{' '.join(command)} failed: see {place}/said.log (keep it with --where)")
                return killed
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            running = [s["name"] for s in _record(place)["stages"] if s["status"] == "running"]
            killed.append(" + ".join(running) or "between stages")
            print(f"kill {len(killed):>2}: {_done(place)} stages done, in {killed[-1]}", flush=True)
    return killed


def _comes(process: subprocess.Popen[bytes], place: Path, moment: tuple[int, float] | None) -> bool:
    """Wait for the moment of a kill; false where the command ends before, or where there is none."""
    if moment is None:
        return False
    stages, seconds = moment
    while _done(place) < stages and process.poll() is None:
        time.sleep(0.2)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def _done(place: Path) -> int:
    return sum(s["status"] == "done" for s in _record(place)["stages"])


def _compared(calm: Path, other: Path, killed: list[str], seconds: float) -> int:
    one, two = (Path(place, _record(place)["output_dir"]) for place in (calm, other))
    parts = {p.parent.relative_to(one) for p in one.rglob("manifest.json")}
    parts -= {p for p in parts if p.parts[0] == "scores"}  # a cache: what has been scored, in the order it came
    weights = {p.relative_to(one) for p in one.rglob("*.safetensors")}
    differ = [str(part) for part in sorted(parts) if content(one / part) != content(two / part)]
    differ += [str(name) for name in sorted(weights) if _digest(one / name) != _digest(two / name)]
    figures = one / "ablation.json"
    if figures.is_file() and json.loads(figures.read_text()) != json.loads((two / "ablation.json").read_text()):
        differ.append("ablation.json")
    rows = sum(read_manifest(two / part).rows for part in parts)
    open_ = [str(part) for part in sorted(parts) if not read_manifest(two / part).finished]
    print(
        f"{len(killed)} kills, {len(parts)} ledgers with {rows:,} rows, {len(weights)} weight files; calm "
        f"{_record(calm)['seconds']:.0f} s, killed {seconds:.0f} s: "
        + (f"DIFFERENT: {', '.join(differ + open_)}" if differ or open_ else "all as in the calm run")
    )
    return 1 if differ or open_ or not parts else 0


def _record(place: Path) -> dict[str, Any]:
    found = list(place.glob("outputs/*/recipe.json"))
    return dict(json.loads(found[0].read_text())) if found else {"stages": []}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "GOMP_SPINCOUNT": "1000"}


if __name__ == "__main__":
    sys.exit(main())
