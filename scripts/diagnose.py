"""What to do about a failed pip, read off what it said."""

from __future__ import annotations

import re

# In order: pip ends nearly every failure with "No matching distribution", so the true causes come first.
CAUSES = {
    r"No space left on device|Errno 28|Disk quota exceeded": """
        The disk is full: the CPU set needs about 5 GB where the checkout is, and 1 GB for temporary files
        (TMPDIR=... moves these). Free some, run again.""",
    r"CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerification": """
        The package index showed a certificate that pip does not trust. Behind a proxy that opens connections,
        give pip its certificate (PIP_CERT=/path/to/ca.crt).""",
    r"ProxyError|NewConnectionError|ConnectTimeoutError|ReadTimeoutError|Failed to establish|Max retries|"
    r"Name or service not known|Temporary failure in name resolution|nodename nor servname|"
    r"Connection (refused|reset|broken)": """
        A package index could not be reached. Check the network and the proxy (HTTPS_PROXY=...), or give pip a mirror
        (PIP_INDEX_URL=...) or a folder with the wheels (PIP_FIND_LINKS=...), and run again.""",
    # With torch in constraints.txt too, pip calls a build that it cannot find a conflict of the two.
    r"user requested torch==|No matching distribution found for torch==|\(from versions: none\)": """
        pip sees no such file for this Python and platform. Is it told to stay offline (PIP_NO_INDEX)? Else let it
        reach PyTorch's CPU index, or put the wheel in a folder and name that: PIP_FIND_LINKS=/folder make setup.""",
    r"ResolutionImpossible|conflicting dependencies": """
        pyproject.toml and constraints.txt contradict each other: `make lock` resolves afresh.""",
    r"requires a different Python|No matching distribution": """
        A pinned package has no release for this Python. The tested one is 3.11: make setup PYTHON=python3.11.""",
    r"Permission denied|Errno 13|Read-only file system": """
        The checkout, or pip's cache, cannot be written to.""",
    r"\bKilled\b|MemoryError": """
        The machine ran out of memory: close something large, run again.""",
}


def advice(output: str) -> str:
    """The fix for the first known cause in `output`, on one line."""
    found = next((text for pattern, text in CAUSES.items() if re.search(pattern, output)), "The reason is below.")
    return " ".join(found.split())
