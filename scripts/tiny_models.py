"""Make the tiny models that ship with the package: each by its commands, in order, with its log and figures.

    python scripts/tiny_models.py --work DIR [--only tiny-base tiny tiny-other] [--threads 2]

tiny-judge is not among them: its steps are in sq/domains/tiny/tiny-judge.log.

A model is put into sq/domains/tiny/ with what `made.json` says of it; figures under `measured` are filled in by hand
from the commands that stand there. What is in DIR already is not trained again.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / "sq" / "domains" / "tiny"
COMMON = "stage.pack_tokens=2048 stage.batch_packs=1 trainer.precision=bf16"
OTHER = "[reading,ages,walk,number,shop,wages,shape,weight,kitchen]"
READER = f"stage=pretrain model=tiny-new stage.documents=250000 stage.max_steps=3000 {COMMON}"
COMMANDS = {
    "tiny-base": [
        READER,
        f"stage=pretrain model=tiny-base domain.worked=0 domain.noted=0.6 stage.documents=64000 "
        f"stage.lr=1.5e-3 {COMMON}",
        f"stage=pretrain model=tiny-base domain.worked=0 domain.noted=0.7 stage.documents=40000 "
        f"stage.lr=1.5e-3 seed=2 {COMMON}",
    ],
    "tiny": [
        READER,
        f"stage=pretrain model=tiny-base domain.worked=0.6 stage.documents=150000 stage.max_steps=4000 "
        f"stage.lr=1.5e-3 {COMMON}",
    ],
    "tiny-other": [
        f"stage=pretrain model=tiny model.name=tiny-other domain.worked=0.3 domain.families={OTHER} domain.min_steps=2 "
        f"stage.documents=30000 stage.lr=5e-4 seed=1 {COMMON}",
    ],
}
"""Name -> the words after `python train.py` of each command; each but the first starts from what the one before made.

A solver is a base that goes on with worked problems, the second solver is the first after more text of half of the
families and of more steps.
"""

ROUNDED = ("tiny-other",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="directory for runs")
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--threads", type=int, default=2, help="of the processor; not part of the result")
    options = parser.parse_args()
    for name in options.only:
        make(name, options.work.resolve(), options.threads)


def make(name: str, work: Path, threads: int) -> None:
    """Train one model and put it into the package."""
    lines: list[str] = []
    output = work
    for number, command in enumerate(COMMANDS[name]):
        start = [f"model.path={output / 'model'}"] if number else []
        output = work / ("reader" if command == READER else f"{name}-{number}")
        log = output.with_suffix(".log")
        if not (output / "model").exists():
            output.parent.mkdir(parents=True, exist_ok=True)
            words = [*command.split(), *start, f"trainer.threads={threads}", f"trainer.cache={work / 'cache'}",
                     "tracking=none", f"output_dir={output}"]  # fmt: skip
            with log.open("w") as file:
                subprocess.run([sys.executable, str(ROOT / "train.py"), *words], cwd=ROOT, check=True, stderr=file)
        lines += [f"$ python train.py {command}", *log_lines(log, str(work))]
    (PLACE / f"{name}.log").write_text("\n".join(lines) + "\n")
    shutil.rmtree(PLACE / name, ignore_errors=True)
    (PLACE / name).mkdir()
    for path in sorted((output / "model").iterdir()):
        if path.suffix in (".json", ".jinja", ".safetensors") and path.name != "sq.json":
            shutil.copy(path, PLACE / name)
    if name in ROUNDED:
        round_weights(PLACE / name)
    made = json.loads((PLACE / "made.json").read_text())
    made[name] = {
        "command": " && ".join(f"python train.py {command}" for command in COMMANDS[name]),
        "seed": int((re.search(r"seed=(\d+)", COMMANDS[name][-1]) or [0, 0])[1]),
        "date": datetime.date.today().isoformat(),
        "sha256": hashlib.sha256((PLACE / name / "model.safetensors").read_bytes()).hexdigest(),
        "figures": json.loads((output / "train.json").read_text())["figures"],
        "measured": {},
    }
    (PLACE / "made.json").write_text(json.dumps(made, indent=1) + "\n")


def round_weights(model: Path) -> None:
    """Keep the weights in bf16: half the size, which lets a fourth model ship."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    save_file({k: v.to(torch.bfloat16) for k, v in weights.items()}, model / "model.safetensors", {"format": "pt"})
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}, indent=2) + "\n")


def log_lines(log: Path, work: str) -> list[str]:
    """What training said, of its progress every fiftieth step."""
    lines, last = [], 0
    for line in re.split(r"[\r\n]+", log.read_text()):
        progress = re.search(r"(\d+)/(\d+) \[.*?loss ([\d.]+), ([\d,]+) tokens/s", line)
        if progress is not None:
            if int(progress[1]) >= last + 50:
                last = int(progress[1])
                lines.append(f"{last:5d} of {progress[2]}  loss {progress[3]}  {progress[4]} tokens/s")
        elif "%|" not in line and line.strip() and work not in line:
            lines.append(line)
    return lines


if __name__ == "__main__":
    main()
