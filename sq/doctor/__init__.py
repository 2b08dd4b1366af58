"""`sq doctor`: whether this machine can do what the project does, and the command that fixes what it cannot.

Everything that may be broken is tried in a process of its own, so that a torch that does not load, or takes the
interpreter down with it, is one line of the report. Nothing beyond the standard library is imported here.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from sq.doctor import environment, installed, machine, smoke_test
from sq.doctor.finding import Finding


def examine(*, trials: bool = True, timeout: float = 180.0) -> Iterator[tuple[str, list[Finding]]]:
    """The findings by heading, as they come.

    Args:
        trials: Also import every package and generate a token, some ten seconds.
        timeout: Seconds that a trial may take.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        imports = pool.submit(installed.imports, timeout) if trials else None
        yield "Packages", [installed.python(), *installed.packages()]
        loaded = imports.result() if imports else installed.ImportResult()
        yield "Imports", loaded.findings
        yield "Machine", machine.findings(loaded.facts)
        yield "Extras", installed.extras(has_gpu=machine.has_gpu())
        yield "Surroundings", environment.findings()
        if trials:
            yield "One token by the tiny model", smoke_test.generate(timeout)
