#!/usr/bin/python3
"""Works at each line it is given, and looks at everything that tells of its CPU time: none of it may go back, and all must tell of the work."""
import os
import resource
import sys
import threading
import time

WORK = 0.25
# getrusage and times count in steps of 10 ms, two of them each.
TOLERANCE = 0.05
PATIENCE = 60
MINE = time.pthread_getcpuclockid(threading.get_ident())


def rusage(who):
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


READINGS = {
    "process clock": lambda: time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID),
    "thread clock": lambda: time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID),
    "clock of its number": lambda: time.clock_gettime(MINE),
    "getrusage": lambda: rusage(resource.RUSAGE_SELF),
    "getrusage of the thread": lambda: rusage(resource.RUSAGE_THREAD),
    "times": lambda: sum(os.times()[:2]),
    "peak": lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    "faults": lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt,
}


def look():
    return {name: read() for name, read in READINGS.items()}


def work():
    begun, patience = time.thread_time(), time.monotonic() + PATIENCE
    while time.thread_time() - begun < WORK:
        if time.monotonic() > patience:
            sys.exit("its CPU time stands still")
        sum(range(10000))


last = look()
print("ready", flush=True)
for line in sys.stdin:
    if line == "forget\n":
        last = look()
        print("forgotten", flush=True)
        continue
    before = look()
    for name, value in before.items():
        if value < last[name] - (TOLERANCE if "clock" not in name else 0):
            sys.exit(f"{name} went back from {last[name]} to {value}")
    work()
    last = look()
    for name in READINGS:
        if name not in ("peak", "faults") and last[name] - before[name] < WORK - TOLERANCE:
            sys.exit(f"{name} went from {before[name]} to {last[name]} in {WORK} s of work")
    print("worked", flush=True)
