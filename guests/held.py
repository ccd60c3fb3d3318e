"""Signals that mean nothing by default, but are blocked: they wait until somebody asks for them.

usage: held.py

Each line on its input is one step: what came of the last one is collected, and a child is made that ends a little later.
"""
import os
import signal
import sys
import time

QUIET = [signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGCONT]
signal.pthread_sigmask(signal.SIG_BLOCK, QUIET)
children = []


def bear(number):
    child = os.fork()
    if child == 0:
        time.sleep(0.15)
        for quiet in QUIET[1:]:
            os.kill(os.getppid(), quiet)
        os._exit(number)
    children.append((child, number))


def collect():
    for child, number in children:
        for quiet in QUIET[1:] + QUIET[:1]:
            deadline = time.monotonic() + 20
            while quiet not in signal.sigpending():
                assert time.monotonic() < deadline, f"{quiet!r} of child {number} was lost"
                time.sleep(0.01)
        for quiet in QUIET:
            info = signal.sigtimedwait([quiet], 20)
            assert info.si_signo == quiet and info.si_pid == child, f"{info}, child {child}"
            assert quiet != signal.SIGCHLD or info.si_status == number, f"{info}, status {number}"
        assert os.waitpid(child, 0) == (child, number << 8)
    children.clear()


print("ready", flush=True)
steps = 0
for line in sys.stdin:
    collect()
    if line == "finish\n":
        break
    steps += 1
    bear(steps)
print("held: nothing that waited was lost")
