"""The program that shuts a command in by the kernel's own means, where no bubblewrap is installed.

Owns the order of the steps: new namespaces, a read-only file system, what is hidden and shown, no capabilities. It is
run as a file of its own (``python -I -S namespaces.py SPEC COMMAND...``), so it refuses to know anything of ours or
outside the standard library. Invariant: the command starts only after every step has succeeded; else this ends with
status 125 and says which step failed.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import sys
from typing import Any, NoReturn

FAILED_STATUS = 125
FAILED_PREFIX = "metaclaw-sandbox: "

_NEW_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
_ATTR_RDONLY, _ATTR_NOSUID = 1, 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_SYS_MOUNT_SETATTR = 442  # the same number on every machine
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 1, 24, 38, 47
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_DEVICES = ("null", "zero", "full", "random", "urandom")

_libc = ctypes.CDLL(None, use_errno=True)


class StepError(Exception):
    """A step that the kernel refused."""


def main(arguments: list[str]) -> NoReturn:
    spec: dict[str, Any] = json.loads(arguments[0])
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        _enter_namespaces()
        _bring_loopback_up()
        _arrange_files(spec)
    except (OSError, StepError) as error:
        _fail(error)
    first = os.fork()
    if first == 0:
        _be_first_process(spec, arguments[1:])
    os._exit(_status(os.waitpid(first, 0)[1]))


def _be_first_process(spec: dict[str, Any], command: list[str]) -> NoReturn:
    """Process 1 of the new world: it ends with the command, and everything in it ends with it."""
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        _mount_proc()
        _drop_capabilities()
        os.chdir(spec["inside"])
    except (OSError, StepError) as error:
        _fail(error)
    child = os.fork()
    if child == 0:
        try:
            os.execvp(command[0], command)
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
            os._exit(127)
    while True:
        ended, status = os.wait()
        if ended == child:
            os._exit(_status(status))


def _enter_namespaces() -> None:
    user, group = os.getuid(), os.getgid()
    _check(_libc.unshare(_NEW_NAMESPACES), "new namespaces")
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{user} {user} 1")
    _write("/proc/self/gid_map", f"{group} {group} 1")


def _bring_loopback_up() -> None:
    """A program may talk to itself; there is no other interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        (flags,) = struct.unpack_from("H", fcntl.ioctl(probe, _SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", flags | _IFF_UP, b""))


def _arrange_files(spec: dict[str, Any]) -> None:
    # Held open before anything is laid over them: from here on they are reached through these descriptors alone.
    work = os.open(spec["work"], os.O_PATH) if spec["work"] else None
    shown = {path: os.open(path, os.O_PATH) for path in spec["shown"]}
    devices = {name: os.open(f"/dev/{name}", os.O_PATH) for name in _DEVICES}
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE, None, "private mounts")
    _set_attributes("/", _ATTR_RDONLY | _ATTR_NOSUID, 0, recursive=True)
    scratch = f"mode=1777,size={spec['scratch_mb']}m"
    for path in spec["emptied"]:
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114 - pathlib is a slow import
            _mount("tmpfs", path, "tmpfs", _MS_NOSUID | _MS_NODEV, scratch, path)
        elif os.path.exists(path):  # noqa: PTH110
            _mount("/dev/null", path, None, _MS_BIND, None, path)
    for path, descriptor in shown.items():
        if not os.path.exists(path):  # noqa: PTH110
            _place(path, is_directory=_is_directory(descriptor))
            _mount(_of(descriptor), path, None, _MS_BIND | _MS_REC, None, path)
    _arrange_devices(devices, scratch)
    os.makedirs(spec["inside"], exist_ok=True)  # noqa: PTH103
    if work is not None:
        _mount(_of(work), spec["inside"], None, _MS_BIND, None, spec["inside"])
        _set_attributes(spec["inside"], _ATTR_NOSUID, _ATTR_RDONLY)
    for descriptor in [*shown.values(), *devices.values(), *([] if work is None else [work])]:
        os.close(descriptor)


def _arrange_devices(devices: dict[str, int], scratch: str) -> None:
    _mount("tmpfs", "/dev", "tmpfs", _MS_NOSUID, "mode=755,size=64k", "/dev")
    for name, descriptor in devices.items():
        _place(f"/dev/{name}", is_directory=False)
        _mount(_of(descriptor), f"/dev/{name}", None, _MS_BIND, None, f"/dev/{name}")
    for name, target in {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}.items():
        os.symlink(f"/proc/self/fd{target}", f"/dev/{name}")  # noqa: PTH211
    os.mkdir("/dev/shm")  # noqa: PTH102
    _mount("tmpfs", "/dev/shm", "tmpfs", _MS_NOSUID | _MS_NODEV, scratch, "/dev/shm")
    _set_attributes("/dev", _ATTR_RDONLY, 0)


def _mount_proc() -> None:
    """Of this world's processes alone. Where the kernel refuses (in some containers), none: never the outer one."""
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC | _MS_RDONLY
    if _libc.mount(b"proc", b"/proc", b"proc", flags, None) != 0:
        _mount("tmpfs", "/proc", "tmpfs", flags, "size=4k", "/proc")


def _drop_capabilities() -> None:
    for capability in range(64):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails beyond the last one that there is
    _libc.prctl(_PR_CAP_AMBIENT, 4, 0, 0, 0)
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    _check(_libc.capset(header, none), "no capabilities")


def _place(path: str, *, is_directory: bool) -> None:
    if is_directory:
        os.makedirs(path, exist_ok=True)  # noqa: PTH103
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))


def _is_directory(descriptor: int) -> bool:
    return os.path.isdir(_of(descriptor))  # noqa: PTH112


def _of(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None, step: str) -> None:
    as_bytes = [None if text is None else text.encode() for text in (source, target, kind)]
    _check(_libc.mount(*as_bytes, ctypes.c_ulong(flags), None if options is None else options.encode()), step)


def _set_attributes(path: str, given: int, taken: int, *, recursive: bool = False) -> None:
    attributes = struct.pack("QQQQ", given, taken, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    number = ctypes.c_long(_SYS_MOUNT_SETATTR)
    done = _libc.syscall(number, _AT_FDCWD, path.encode(), flags, attributes, ctypes.c_size_t(len(attributes)))
    _check(done, f"{path} read-only" if given & _ATTR_RDONLY else f"{path} writable")


def _check(result: int, step: str) -> None:
    if result != 0:
        raise StepError(f"{step}: {os.strerror(ctypes.get_errno())}")


def _write(path: str, text: str) -> None:
    handle = os.open(path, os.O_WRONLY)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)


def _status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def _fail(error: Exception) -> NoReturn:
    os.write(2, f"{FAILED_PREFIX}{error}\n".encode())
    os._exit(FAILED_STATUS)


if __name__ == "__main__":
    main(sys.argv[1:])
