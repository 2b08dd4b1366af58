"""Whether this system allows the sandbox's isolation, found out without a line of the sandbox.

A sandbox that does not start where it could is broken, and its tests fail; where the system forbids it they skip.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from typing import Any, NoReturn

import pytest

SPACES = ["--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", "--fork"]
MOUNTS = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /tmp
mkdir /tmp/a
mount --bind /usr /tmp/a
mount -o remount,bind,ro,nosuid,nodev /tmp/a
"""


def possible(tier: str, **who: Any) -> bool:
    """Whether a program of this user (`who`: as `subprocess` takes it) can be held by this means; auto: by any."""
    if tier == "auto":
        return possible("namespaces", **who) or possible("landlock", **who)
    if not sys.platform.startswith("linux") or os.uname().machine not in ("x86_64", "aarch64"):
        return False
    if tier == "landlock":
        return ctypes.CDLL(None).syscall(444, None, 0, 1) >= 3  # landlock_create_ruleset: the kernel's version
    command = ["unshare", "--user", "--map-root-user", *SPACES, "sh", "-c", MOUNTS]
    try:
        return subprocess.run(command, capture_output=True, cwd="/", timeout=60, **who).returncode == 0
    except FileNotFoundError:
        return False


def refused(tier: str, reason: object, **who: Any) -> NoReturn:
    """The sandbox did not start: fail where it could have, skip where the system forbids it."""
    if possible(tier, **who):
        pytest.fail(f"this system allows {tier}, yet the sandbox did not start: {reason}")
    pytest.skip(f"this system refuses {tier}: {reason}")
