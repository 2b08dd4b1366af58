"""The file system that a program sees: Python's own files, read-only, an empty directory, five devices. Nothing else.

Paths stay what they are outside, or extension modules would not find their libraries; parents are empty directories.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Sequence

from sq.sandbox.inside import syscalls as sc
from sq.sandbox.inside.syscalls import detach, mount, pivot_root

TMP = "/box"
"""A program's own directory; /tmp leads there, unless a Python that lies below /tmp is to be seen."""
_BASE = "/tmp"
_OLD = "/.old"
_DEVICES = ("null", "zero", "full", "random", "urandom")
_ALIASES = ("/lib", "/lib64", "/lib32", "/bin")
_USEFUL = ("/etc/ld.so.cache", "/usr/share/zoneinfo", "/lib64", "/nix/store")
_KEPT = {8: sc.MS_NOEXEC, 1024: sc.MS_NOATIME, 2048: sc.MS_NODIRATIME, 4096: sc.MS_RELATIME}
"""Flags of a mount, as statvfs tells them and as mount takes them, that may not be lost when it is made read-only."""


def python_paths(packages: Sequence[str]) -> list[str]:
    """What this interpreter needs of the file system: its library, its binary, shared libraries, and `packages`."""
    paths, system = sysconfig.get_paths(), ("/usr", "/usr/local", "/")
    wanted = {paths["stdlib"], paths["platstdlib"], os.path.realpath(sys.executable), *packages, *_USEFUL}
    if sys.base_prefix not in system:
        wanted.add(f"{sys.base_prefix}/lib")
    for library in _mapped_libraries():  # a system's libraries are many and lie together; elsewhere it is this one
        wanted.add(os.path.dirname(library) if library.startswith(("/usr/", "/lib")) else library)
    existing = {name for p in wanted if os.path.exists(p) for name in (os.path.abspath(p), os.path.realpath(p))}
    kept: list[str] = []
    for path in sorted(existing):  # a parent comes before what it holds
        if path != "/" and not any(path == k or path.startswith(k + "/") for k in kept):
            kept.append(path)
    return kept


def enter(paths: Sequence[str], tmp_options: str) -> None:
    """Make a new root of `paths` and a fresh directory for the program, and forget the old root."""
    mount("none", "/", None, sc.MS_REC | sc.MS_PRIVATE)
    real = {path: os.path.realpath(path) for path in paths}
    aliases = {alias: os.readlink(alias) for alias in _ALIASES if os.path.islink(alias)}
    mount("tmpfs", _BASE, "tmpfs", sc.MS_NOSUID | sc.MS_NODEV, "mode=755,size=1m,nr_inodes=2k")
    os.mkdir(_BASE + _OLD)
    pivot_root(_BASE, _BASE + _OLD)
    os.chdir("/")
    for path in paths:
        _bind(path, real[path])
    for alias, target in aliases.items():
        if not os.path.lexists(alias):
            os.symlink(target, alias)
    for device in _DEVICES:
        _bind(f"/dev/{device}", f"/dev/{device}", device=True)
    os.mkdir(TMP)
    os.symlink(TMP, "/dev/shm")
    if not os.path.exists("/tmp"):
        os.symlink(TMP, "/tmp")
    fresh_tmp(tmp_options, first=True)
    detach(_OLD)
    os.rmdir(_OLD)
    mount("none", "/", None, sc.MS_REMOUNT | sc.MS_BIND | sc.MS_RDONLY | sc.MS_NOSUID | sc.MS_NODEV)


def fresh_tmp(options: str, *, first: bool = False) -> None:
    """Give the program's directory up with all that is in it, for an empty one."""
    if not first:
        os.chdir("/")
        detach(TMP)
    mount("tmpfs", TMP, "tmpfs", sc.MS_NOSUID | sc.MS_NODEV, options)


def _bind(path: str, real: str, *, device: bool = False) -> None:
    source = _OLD + real
    if os.path.isdir(source):
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
    mount(source, path, None, sc.MS_BIND)
    held = os.statvfs(path).f_flag
    flags = sc.MS_REMOUNT | sc.MS_BIND | sc.MS_NOSUID | sum(ms for st, ms in _KEPT.items() if held & st)
    mount("none", path, None, flags | (0 if device else sc.MS_RDONLY | sc.MS_NODEV))


def _mapped_libraries() -> set[str]:
    """The shared libraries that this process has loaded."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        fields = (line.split(None, 5) for line in maps)
        return {f[5].strip() for f in fields if len(f) == 6 and ".so" in f[5] and f[5].startswith("/")}
