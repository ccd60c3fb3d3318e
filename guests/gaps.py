"""Holds memory and looks at the clock all the time: the longest gap is how long it stood still, as it sees it itself.

Argument: megabytes; three quarters are random, one quarter is pages of zeros. Told "gap" it prints the longest gap
since it was last asked, in microseconds; anything else ends it."""
import os
import select
import sys
import time

megabytes = int(sys.argv[1])
random = bytearray(os.urandom(megabytes * 3 << 18))
zeros = bytearray(megabytes << 18)
# Written, so that the pages exist.
zeros[::4096] = bytes(len(zeros[::4096]))
print("ready", flush=True)
clock = time.monotonic
gap = look = 0.0
last = clock()
while True:
    now = clock()
    if now - last > gap:
        gap = now - last
    last = now
    if now > look:
        look = now + 0.005
        if select.select([0], [], [], 0)[0]:
            if not os.read(0, 64).startswith(b"gap"):
                break
            print("gap %d" % (gap * 1e6), flush=True)
            gap, last = 0.0, clock()
