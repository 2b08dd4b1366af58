"""What the processor can do, read from the system's own list: nothing heavy is imported for it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Names, on x86 and on ARM, of instructions that multiply in bf16. Without one bf16 is emulated: 4 to 15 times slower
than fp32 (`benchmarks/README.md`)."""


@lru_cache(maxsize=1)
def cpu_flags() -> frozenset[str]:
    """The instruction sets that the processor names; none where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    line = next((text for text in lines if text.startswith(("flags", "Features"))), "")
    return frozenset(line.partition(":")[2].split())


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies in bf16 itself."""
    return bool(cpu_flags() & BF16)
