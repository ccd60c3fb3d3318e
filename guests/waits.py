"""Waits with every relative timeout that the kernel knows, all at once, each in a thread of its own.

usage: waits.py SECONDS

Prints for how long each of them has waited.
"""
import ctypes
import os
import select
import sys
import threading
import time

seconds = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
POLL, NANOSLEEP, FUTEX, CLOCK_NANOSLEEP = 7, 35, 202, 230
FUTEX_WAIT_PRIVATE, CLOCK_MONOTONIC = 128, 1
read_end, write_end = os.pipe()


class Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class Pollfd(ctypes.Structure):
    _fields_ = [("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short)]


def span():
    return ctypes.byref(Timespec(seconds, 0))


def nanosleep_tells_the_rest():
    time_left = Timespec(seconds, 0)
    libc.syscall(NANOSLEEP, ctypes.byref(time_left), ctypes.byref(time_left))


def epoll():
    poll = select.epoll()
    poll.register(read_end, select.EPOLLIN)
    poll.poll(seconds)


waits = {
    "poll": lambda: libc.syscall(POLL, ctypes.byref(Pollfd(read_end, 1, 0)), 1, seconds * 1000),
    "nanosleep": lambda: libc.syscall(NANOSLEEP, span(), None),
    "nanosleep-rest": nanosleep_tells_the_rest,
    "clock-nanosleep": lambda: libc.syscall(CLOCK_NANOSLEEP, CLOCK_MONOTONIC, 0, span(), None),
    "futex": lambda: libc.syscall(FUTEX, ctypes.byref(ctypes.c_int(0)), FUTEX_WAIT_PRIVATE, 0, span(), None, 0),
    "select": lambda: select.select([read_end], [], [], seconds),
    "epoll": epoll,
    "event": lambda: threading.Event().wait(seconds),
}
lines = []


def wait(name, call):
    began = time.monotonic()
    call()
    lines.append(f"{name} {round((time.monotonic() - began) * 1000)} ms")


threads = [threading.Thread(target=wait, args=pair) for pair in waits.items()]
for thread in threads:
    thread.start()
print("ready", flush=True)
for thread in threads:
    thread.join()
print("\n".join(lines))
