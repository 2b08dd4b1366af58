"""Which isolation the system allows, tried by starting it, and probed by a program that attempts to get out."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass

from sq.core.errors import EngineError
from sq.sandbox.config import SandboxConfig
from sq.sandbox.inside.confine import FULL, LANDLOCK, WEAK
from sq.sandbox.inside.linux import supported
from sq.sandbox.programs import Calls, Program
from sq.sandbox.worker import RefusedError, SandboxWorker

log = logging.getLogger(__name__)
WORDS = {
    FULL: "namespaces (user, mount, network, process, ipc), a read-only root with Python alone, no capabilities",
    LANDLOCK: "Landlock (no file but Python's), no sockets, no child processes",
    WEAK: "limits only: programs can read your files and reach the network",
}
_PROBE = """
import os, socket

def probe(path, secret):
    found = []
    try:
        open(path).close()
        found.append("reads your files")
    except OSError:
        pass
    for kind in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.create_connection(("127.0.0.1", 9), 0.2) if kind == socket.AF_INET else socket.socket(kind)
            found.append("opens sockets")
        except ConnectionRefusedError:
            found.append("reaches the network")
        except OSError:
            pass
    if any(secret in text for text in os.environ):
        found.append("sees your environment")
    try:
        os.kill(os.getppid() or -1, 0)
        found.append("signals other processes")
    except OSError:
        pass
    return found
"""


@dataclass(frozen=True, kw_only=True)
class Isolation:
    """What is in force.

    Attributes:
        tier: `namespaces`, `landlock` or `weak`.
        filtered: whether a system call filter is in force too.
        refused: why stronger ones are not, by tier.
    """

    tier: str
    filtered: bool
    refused: dict[str, str]

    def __str__(self) -> str:
        return WORDS[self.tier] + (", system calls filtered" if self.filtered else "")


def strongest(config: SandboxConfig) -> tuple[Isolation, SandboxWorker]:
    """The strongest isolation that works here, and the first worker in it.

    Raises:
        EngineError: where there is none that is enough.
    """
    tiers = (FULL, LANDLOCK, WEAK) if config.isolation == "auto" else (config.isolation,)
    refused: dict[str, str] = {}
    for tier in tiers:
        if tier == WEAK and not config.allow_weak:
            continue
        if tier != WEAK and not supported():
            refused[tier] = f"{sys.platform} has none"
            continue
        worker = SandboxWorker(config, tier)
        try:
            filtered = worker.ready()
            if tier != WEAK:
                _probe(worker)
        except RefusedError as error:
            refused[tier] = str(error)
            worker.stop()
            continue
        return Isolation(tier=tier, filtered=filtered, refused=refused), worker
    told = "; ".join(f"{tier}: {why}" for tier, why in refused.items()) or "isolation=weak was asked for"
    raise EngineError(
        f"the sandbox cannot keep programs from your files and the network here ({told}). Allow user namespaces "
        "(sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0) or a kernel with Landlock, "
        "or, on a machine with nothing to lose, say sandbox.allow_weak=true (domains: domain.sandbox.allow_weak=true)"
    )


def _probe(worker: SandboxWorker) -> None:
    """Refuse an isolation that a plain attempt gets out of, whatever it claims."""
    call = Calls(function="probe", arguments=[[__file__, "SECRET"]])
    outcome = worker.run(Program(source=_PROBE, tests=call))
    if not outcome.values or outcome.values[0] != []:
        raise RefusedError(f"a probe got out of it: {outcome.values[0] if outcome.values else outcome.reason}")
