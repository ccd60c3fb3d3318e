"""An ordinary program: it counts, on its terminal and into a file, and knows nothing of other machines.

usage: demo.py FILE
"""
import os
import sys
import time

file = open(sys.argv[1], "w")
print("hello, I am pid", os.getpid(), "on", os.ttyname(1), flush=True)
count, started = 0, time.monotonic()
while not os.path.exists(sys.argv[1] + ".stop"):
    count += 1
    print("count", count, "pid", os.getpid(), flush=True)
    print(count, file=file, flush=True)
    # An honest bit of work between the lines.
    sum(n * n for n in range(200_000))
    time.sleep(0.1)
print("done after", count, "pid", os.getpid(), "on", os.ttyname(1), flush=True)
