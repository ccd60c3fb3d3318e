"""Waits with every relative timeout that the kernel knows, all at once, each in a thread of its own.

usage: waits.py SECONDS KIND...

Prints for how long each of them has waited.
"""
import ctypes
import os
import select
import socket
import struct
import sys
import threading
import time

seconds = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
POLL, SELECT, NANOSLEEP, SIGTIMEDWAIT, FUTEX, SEMTIMEDOP = 7, 23, 35, 128, 202, 220
CLOCK_NANOSLEEP, PSELECT6, PPOLL, EPOLL_PWAIT2 = 230, 270, 271, 441
FUTEX_WAIT_PRIVATE, CLOCK_MONOTONIC, IPC_PRIVATE, IPC_RMID = 128, 1, 0, 0
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


def epoll_of_nanoseconds():
    poll, event = select.epoll(), ctypes.create_string_buffer(12)
    poll.register(read_end, select.EPOLLIN)
    libc.syscall(EPOLL_PWAIT2, poll.fileno(), event, 1, span(), None, 8)


def select_tells_the_rest():
    """The kernel writes what is left whenever it interrupts the call, and 0 in the end."""
    readable, time_left = ctypes.c_ulong(1 << read_end), Timespec(seconds, 0)
    libc.syscall(SELECT, read_end + 1, ctypes.byref(readable), None, None, ctypes.byref(time_left))
    if (time_left.seconds, time_left.nanoseconds) != (0, 0):
        lines.append(f"select was told that {time_left.seconds}.{time_left.nanoseconds:06} s were left")


def pselect():
    readable = ctypes.c_ulong(1 << read_end)
    libc.syscall(PSELECT6, read_end + 1, ctypes.byref(readable), None, None, span(), None)


def until_its_time_is_over(waiting, call):
    """The socket's own time, not that of Python, which would poll."""
    waiting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", seconds, 0))
    try:
        call()
        lines.append("somebody answered")
    except BlockingIOError:
        pass


def receive():
    ends = socket.socketpair()
    until_its_time_is_over(ends[0], lambda: ends[0].recv(1))


def accept():
    with socket.create_server(("127.0.0.1", 0)) as server:
        until_its_time_is_over(server, server.accept)


def semaphore():
    number = libc.semget(IPC_PRIVATE, 1, 0o600)
    operation = (ctypes.c_short * 3)(0, -1, 0)
    libc.syscall(SEMTIMEDOP, number, operation, 1, span())
    libc.semctl(number, 0, IPC_RMID)


waits = {
    "poll": lambda: libc.syscall(POLL, ctypes.byref(Pollfd(read_end, 1, 0)), 1, seconds * 1000),
    "nanosleep": lambda: libc.syscall(NANOSLEEP, span(), None),
    "nanosleep-rest": nanosleep_tells_the_rest,
    "clock-nanosleep": lambda: libc.syscall(CLOCK_NANOSLEEP, CLOCK_MONOTONIC, 0, span(), None),
    "futex": lambda: libc.syscall(FUTEX, ctypes.byref(ctypes.c_int(0)), FUTEX_WAIT_PRIVATE, 0, span(), None, 0),
    "ppoll": lambda: libc.syscall(PPOLL, ctypes.byref(Pollfd(read_end, 1, 0)), 1, span(), None, 8),
    "select": lambda: select.select([read_end], [], [], seconds),
    "select-rest": select_tells_the_rest,
    "pselect": pselect,
    "epoll": epoll,
    "epoll-pwait2": epoll_of_nanoseconds,
    "receive": receive,
    "accept": accept,
    "semtimedop": semaphore,
    "sigtimedwait": lambda: libc.syscall(SIGTIMEDWAIT, ctypes.byref(ctypes.c_ulong(1 << 11)), None, span(), 8),
    "event": lambda: threading.Event().wait(seconds),
}
lines = []


def wait(name, call):
    began = time.monotonic()
    call()
    lines.append(f"{name} {round((time.monotonic() - began) * 1000)} ms")


threads = [threading.Thread(target=wait, args=(kind, waits[kind])) for kind in sys.argv[2:]]
for thread in threads:
    thread.start()
print("ready", flush=True)
for thread in threads:
    thread.join()
print("\n".join(lines))
