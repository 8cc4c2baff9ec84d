"""Runs one Python program where it can do next to nothing. A script of its own, for the standard library alone:

    python -s -S -P -B _cell.py PROGRAM FINISHED SECONDS MEGABYTES

Before the first line of the program the process locks itself in, and no later line can undo it:
* resource limits (setrlimit): CPU time, memory, open files, bytes of a file, threads, no core file;
* Landlock (Linux 5.13): of the file system it can read Python's own folders and the program's, and write nothing;
* seccomp: a list of allowed system calls. No sockets, no new processes or programs, no signals to others, no file opened for
  writing, nothing of the kernel's that is not on the list.
Where one of them is refused, nothing is run. Ends with the code FINISHED where the program came to its end.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import runpy
import signal
import sys
import sysconfig
from collections.abc import Iterable

OPEN_FILES = 32
FILE_BYTES = 1 << 16
"""Of the one file it holds open for writing: what it says as its error."""
THREADS = 64

SYSTEM_CALLS = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "fstat": (5, 80), "lseek": (8, 62), "mmap": (9, 222),
    "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139), "pread64": (17, 67), "pwrite64": (18, 68), "readv": (19, 65), "writev": (20, 66),
    "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439), "pipe": (22, None), "pipe2": (293, 59),
    "select": (23, None), "pselect6": (270, 72), "poll": (7, None), "ppoll": (271, 73), "sched_yield": (24, 124),
    "mremap": (25, 216), "madvise": (28, 233), "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24),
    "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178), "getuid": (102, 174), "geteuid": (107, 175),
    "getgid": (104, 176), "getegid": (108, 177), "getpgrp": (111, None), "getpgid": (121, 155), "getsid": (124, 156),
    "getgroups": (115, 158), "uname": (63, 160), "getcwd": (79, 17), "chdir": (80, 49), "fchdir": (81, 50),
    "readlink": (89, None), "readlinkat": (267, 78), "stat": (4, None), "lstat": (6, None), "newfstatat": (262, 79),
    "statx": (332, 291), "statfs": (137, 43), "fstatfs": (138, 44), "getdents64": (217, 61), "fadvise64": (221, 223),
    "futex": (202, 98), "set_robust_list": (273, 99), "rseq": (334, 293), "set_tid_address": (218, 96),
    "sched_getaffinity": (204, 123), "getrandom": (318, 278), "exit": (60, 93), "exit_group": (231, 94),
    "epoll_create1": (291, 20), "epoll_ctl": (233, 21), "epoll_wait": (232, None), "epoll_pwait": (281, 22),
    "eventfd2": (290, 19), "sigaltstack": (131, 132), "getrlimit": (97, 163), "getrusage": (98, 165), "sysinfo": (99, 179),
    "times": (100, 153), "gettimeofday": (96, 169), "time": (201, None), "umask": (95, 166), "membarrier": (324, 283),
    "restart_syscall": (219, 128), "setitimer": (38, 103), "getitimer": (36, 102), "alarm": (37, None),
    "rt_sigtimedwait": (128, 137), "rt_sigpending": (127, 136), "sendto": (44, 206), "recvfrom": (45, 207),
    "sendmsg": (46, 211), "recvmsg": (47, 212), "shutdown": (48, 210), "getsockopt": (55, 209), "setsockopt": (54, 208),
}  # fmt: skip
"""Allowed whatever their arguments: (number on x86_64, on aarch64)."""
OPEN, OPENAT, IOCTL, FCNTL = (2, None), (257, 56), (16, 29), (72, 25)
CLONE, CLONE3, PRLIMIT, SOCKETPAIR = (56, 220), (435, 435), (302, 261), (53, 199)
"""Allowed for some arguments."""
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

WRITING = 0o3 | 0o100 | 0o1000
"""O_WRONLY or O_RDWR, O_CREAT, O_TRUNC."""
TERMINAL_QUESTIONS = (0x5401, 0x5421, 0x5450, 0x5451, 0x541B)
"""TCGETS, FIONBIO, FIONCLEX, FIOCLEX, FIONREAD."""
DESCRIPTOR_FLAGS = (0, 1, 2, 3, 4, 1030)
"""F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC."""
THREAD = 0x00010000
NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000

LOAD, AND, EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06
ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
"""Places in `struct seccomp_data`; an argument has eight bytes, the lower half first."""
SET_SECCOMP, FILTER, NO_NEW_PRIVILEGES, DIE_WITH_PARENT = 22, 2, 38, 1
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
READ = 1 << 2 | 1 << 3
"""LANDLOCK_ACCESS_FS_READ_FILE, READ_DIR."""

Instruction = tuple[int, int, int, int]


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled", ctypes.c_uint64),)


class _Below(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def main(program: str, finished: int, seconds: int, megabytes: int) -> None:
    """Lock this process in and run the program; does not return."""
    libc = ctypes.CDLL(None, use_errno=True)
    _limit(seconds, megabytes)
    _checked(libc.prctl(DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0), "prctl")
    _checked(libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0), "no new privileges")
    _only_read(libc, [os.getcwd(), *readable()])
    _only_calls(libc, filter_of(platform.machine()))
    sys.argv[1:] = []
    runpy.run_path(program, init_globals={"exit": sys.exit, "quit": sys.exit}, run_name="__main__")
    os._exit(finished)


def readable() -> list[str]:
    """Folders that Python itself needs."""
    paths = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), sys.base_prefix + "/lib")
    return [path for path in dict.fromkeys([*paths, "/lib", "/lib64", "/usr/lib", "/usr/share/zoneinfo"]) if path]


def _limit(seconds: int, megabytes: int) -> None:
    memory = megabytes << 20
    for what, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, THREADS),
    ):
        resource.setrlimit(what, (most, most))


def _only_read(libc: ctypes.CDLL, folders: Iterable[str]) -> None:
    """Landlock: these folders may be read, and nothing else of the file system be opened or changed."""
    version = _checked(libc.syscall(CREATE_RULESET, None, 0, 1), "Landlock")
    bits = 13 + (version >= 2) + (version >= 3)
    known = (1 << bits) - 1 | (1 << 15 if version >= 5 else 0)
    rules = _Ruleset(known)
    ruleset = _checked(libc.syscall(CREATE_RULESET, ctypes.byref(rules), ctypes.sizeof(rules), 0), "Landlock")
    for path in folders:
        try:
            folder = os.open(path, os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        below = _Below(READ, folder)
        _checked(libc.syscall(ADD_RULE, ruleset, 1, ctypes.byref(below), 0), "Landlock")
        os.close(folder)
    _checked(libc.syscall(RESTRICT_SELF, ruleset, 0), "Landlock")
    os.close(ruleset)


def _only_calls(libc: ctypes.CDLL, instructions: list[Instruction]) -> None:
    """seccomp: what is not on the list fails with "operation not permitted"."""
    held = (_Instruction * len(instructions))(*(_Instruction(*each) for each in instructions))
    whole = _Filter(len(instructions), held)
    _checked(libc.prctl(SET_SECCOMP, FILTER, ctypes.byref(whole), 0, 0), "seccomp")


def filter_of(machine: str) -> list[Instruction]:
    """The filter as instructions (code, jump if so, jump if not, constant). Raises KeyError on other machines."""
    place = list(ARCHITECTURES).index(machine) if machine in ARCHITECTURES else len(ARCHITECTURES)
    lines: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, ARCHITECTURES[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
    ]

    def rule(numbers: tuple[int | None, ...], body: list[Instruction]) -> None:
        number = numbers[place]
        if number is not None:
            lines.extend([(EQUAL, 0, len(body), number), *body])

    for numbers in SYSTEM_CALLS.values():
        rule(numbers, [(RETURN, 0, 0, ALLOW)])
    rule(OPEN, [*_masked(1, WRITING, 0), *_refused()])
    rule(OPENAT, [*_masked(2, WRITING, 0), *_refused()])
    rule(IOCTL, [*_among(1, TERMINAL_QUESTIONS), *_refused()])
    rule(FCNTL, [*_among(1, DESCRIPTOR_FLAGS), *_refused()])
    rule(CLONE, [*_masked(0, THREAD | NAMESPACES, THREAD), *_refused()])
    rule(CLONE3, _refused(errno.ENOSYS))
    rule(PRLIMIT, [*_null(2), *_refused()])
    rule(SOCKETPAIR, [(LOAD, 0, 0, _lower(0)), (EQUAL, 0, 4, 1), *_masked(1, 0xF, 1), *_refused()])
    return [*lines, *_refused()]


def _lower(argument: int) -> int:
    return ARGUMENTS + 8 * argument


def _refused(reason: int = errno.EPERM) -> list[Instruction]:
    return [(RETURN, 0, 0, REFUSE | reason)]


def _masked(argument: int, mask: int, value: int) -> list[Instruction]:
    """Allow where the bits of the mask have this value."""
    return [(LOAD, 0, 0, _lower(argument)), (AND, 0, 0, mask), (EQUAL, 0, 1, value), (RETURN, 0, 0, ALLOW)]


def _among(argument: int, values: tuple[int, ...]) -> list[Instruction]:
    """Allow one of these values."""
    body: list[Instruction] = [(LOAD, 0, 0, _lower(argument))]
    for value in values:
        body += [(EQUAL, 0, 1, value), (RETURN, 0, 0, ALLOW)]
    return body


def _null(argument: int) -> list[Instruction]:
    """Allow a null pointer."""
    upper = _lower(argument) + 4
    return [
        (LOAD, 0, 0, _lower(argument)),
        (EQUAL, 0, 3, 0),
        (LOAD, 0, 0, upper),
        (EQUAL, 0, 1, 0),
        (RETURN, 0, 0, ALLOW),
    ]


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
