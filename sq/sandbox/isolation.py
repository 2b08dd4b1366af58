"""Which isolation the system allows, tried by starting it, and probed by a program that attempts to get out."""

from __future__ import annotations

import logging
import sys

from sq.core.errors import EngineError
from sq.sandbox.config import SandboxConfig
from sq.sandbox.inside.confine import FULL, LANDLOCK, WEAK
from sq.sandbox.inside.syscalls import supported
from sq.sandbox.programs import Calls, Program
from sq.sandbox.worker import RefusedError, SandboxWorker

log = logging.getLogger(__name__)
DESCRIPTIONS = {
    FULL: "namespaces (user, mount, network, process, ipc), a read-only root with Python alone, no capabilities, "
    "system calls filtered",
    LANDLOCK: "Landlock (no file but Python's), no sockets, no child processes, system calls filtered",
    WEAK: "limits only: programs can read your files and reach the network",
}
_PROBE = """
import os, socket

def probe(path, secret):
    escapes = []
    try:
        open(path).close()
        escapes.append("reads your files")
    except OSError:
        pass
    for kind in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.create_connection(("127.0.0.1", 9), 0.2) if kind == socket.AF_INET else socket.socket(kind)
            escapes.append("opens sockets")
        except ConnectionRefusedError:
            escapes.append("reaches the network")
        except OSError:
            pass
    if any(secret in text for text in os.environ):
        escapes.append("sees your environment")
    try:
        os.kill(os.getppid() or -1, 0)
        escapes.append("signals other processes")
    except OSError:
        pass
    return escapes
"""


def start_strongest(config: SandboxConfig) -> tuple[str, SandboxWorker]:
    """The tier of the strongest isolation that works here, and the first worker in it; an EngineError without any."""
    refused: dict[str, str] = {}
    for tier in (FULL, LANDLOCK, WEAK) if config.isolation == "auto" else (config.isolation,):
        if tier == WEAK and not config.allow_weak:
            continue
        if tier != WEAK and not supported():
            refused[tier] = f"{sys.platform} has none"
            continue
        worker = SandboxWorker(config, tier)
        try:
            worker.await_ready()
            probe = worker.run(Program(source=_PROBE, tests=Calls(function="probe", arguments=[[__file__, "SECRET"]])))
            if tier != WEAK and (not probe.values or probe.values[0] != []):
                escapes = probe.values[0] if probe.values else probe.reason
                raise RefusedError(f"a probe got out of it: {escapes}")
        except RefusedError as error:
            refused[tier] = str(error)
            worker.stop()
            continue
        log.info("sandbox: %s", DESCRIPTIONS[tier])
        if refused:
            log.warning("sandbox: stronger isolation is not allowed here: %s", refused)
        return tier, worker
    reasons = "; ".join(f"{tier}: {why}" for tier, why in refused.items()) or "isolation=weak was asked for"
    raise EngineError(
        f"the sandbox cannot keep programs from your files and the network here ({reasons}). Allow user namespaces "
        "(sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0) or a kernel with Landlock, "
        "or, on a machine with nothing to lose, say sandbox.allow_weak=true (domains: domain.sandbox.allow_weak=true)"
    )
