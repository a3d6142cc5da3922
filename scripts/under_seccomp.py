#!/usr/bin/python3
"""Runs a command under scripts/seccomp.json, as a container runtime would.

    under_seccomp.py [--without PREFIX] COMMAND ARGUMENT…

--without leaves out the calls of that name: `--without io_uring` is what Docker's default profile comes to. Needs
Debian's python3-seccomp. Calls that this machine's architecture does not have are passed over.
"""
import json
import os
import pathlib
import sys

import seccomp


def main():
    command, left_out = sys.argv[1:], None
    if command[0] == "--without":
        left_out, command = command[1], command[2:]
    profile = json.loads(pathlib.Path(__file__).with_name("seccomp.json").read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    rules = seccomp.SyscallFilter(seccomp.ERRNO(profile["defaultErrnoRet"]))
    for group in profile["syscalls"]:
        for name in group["names"]:
            refused = left_out is not None and name.startswith(left_out)
            if not refused and seccomp.resolve_syscall(seccomp.Arch(), name) >= 0:
                rules.add_rule(seccomp.ALLOW, name)
    rules.load()
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
