"""The hub: whether it can be reached is found out once, before its clients try each file for a minute."""

from __future__ import annotations

import logging
import os
import socket
import sys
from functools import lru_cache
from urllib.parse import urlsplit
from urllib.request import getproxies

log = logging.getLogger(__name__)
_SWITCHES = {
    "huggingface_hub.constants": ("HF_HUB_OFFLINE",),
    "datasets.config": ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"),
}
"""What its clients read from the environment when they are imported."""


AT_START = frozenset(os.environ)
"""The names that the environment had when this program began."""


def hub_host() -> str:
    """The host of the hub that is asked."""
    return urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").hostname or "huggingface.co"


@lru_cache(maxsize=1)
def check_hub() -> bool:
    """Whether the hub may be asked; where its name means nothing here, its clients use what is cached from now on.

    Behind a proxy names may mean something to the proxy alone: there the clients find out for themselves.
    """
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    if getproxies():
        return True
    try:
        socket.getaddrinfo(hub_host(), 443)
    except OSError as error:
        log.warning("%s cannot be reached (%s): what is in its cache is used", hub_host(), error.strerror or error)
        os.environ["HF_HUB_OFFLINE"] = "1"  # for what is imported later, and for child processes
        for name, switches in _SWITCHES.items():
            for switch in switches if name in sys.modules else ():
                setattr(sys.modules[name], switch, True)
        return False
    return True
