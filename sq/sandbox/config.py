"""Settings of the sandbox: what a program may use, and which isolation is enough."""

from __future__ import annotations

from dataclasses import dataclass

from sq.core.config import setting


@dataclass(frozen=True, kw_only=True)
class SandboxConfig:
    """How model-written programs are run."""

    isolation: str = setting(
        "auto", choices=("auto", "namespaces", "landlock", "weak"), help="auto: the strongest that the system allows"
    )
    allow_weak: bool = setting(False, help="run programs even where neither network nor files are out of their reach")
    workers: int | None = setting(None, ge=1, help="processes that programs are forked from; none: one a core")
    cpu_seconds: float = setting(5.0, gt=0, help="processor time of a program, in whole seconds rounded up")
    wall_seconds: float = setting(20.0, gt=0, help="time a program may take in all, its tests included")
    memory_mb: int = setting(1024, ge=128, help="memory of a program: of each process, and of all together")
    processes: int = setting(16, ge=1, help="processes and threads a program may have at once")
    file_mb: int = setting(16, ge=1, help="size of a file it may write")
    tmp_mb: int = setting(64, ge=1, help="size of its temporary directory, which is in memory")
    tmp_files: int = setting(2048, ge=16, help="files in it")
    output_mb: int = setting(16, ge=1, le=60, help="what it may answer")
    packages: bool = setting(False, help="let programs and tests import the packages of this Python (numpy, ...)")
    warm: list[str] = setting([], help="packages that are loaded once and shared by all programs: [numpy]")
