"""A seccomp profile that forbids system calls, as that of Docker forbids io_uring."""

import ctypes
import struct

SET_NO_NEW_PRIVS, SET_SECCOMP, MODE_FILTER = 38, 22, 2
# <linux/bpf_common.h>: load a word, compare it, return; the number of the call is the first word.
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERROR = 0x7FFF0000, 0x00050000


class Program(ctypes.Structure):
    """A ``sock_fprog``."""

    _fields_ = [("size", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]


def forbid(call: int, error: int) -> None:
    """Let a system call fail in this process from now on.

    Raises:
        OSError: The kernel does not take the profile.
    """
    steps = [(LOAD, 0, 0, 0), (JUMP_EQUAL, 0, 1, call), (RETURN, 0, 0, ERROR | error)]
    code = b"".join(struct.pack("=HBBI", *step) for step in [*steps, (RETURN, 0, 0, ALLOW)])
    instructions = ctypes.create_string_buffer(code, len(code))
    program = Program(4, ctypes.addressof(instructions))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for arguments in ((SET_NO_NEW_PRIVS, 1, 0), (SET_SECCOMP, MODE_FILTER, ctypes.byref(program))):
        if prctl(*arguments, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
