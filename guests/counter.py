"""Counts into a file that stays open, and looks at itself: pid, parent, offset, descriptor.

usage: counter.py FILE
"""
import os
import select
import sys
import time

path = sys.argv[1]
pid, parent = os.getpid(), os.getppid()
descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
inode = os.fstat(descriptor).st_ino
print("ready", flush=True)

count, offset, rest, finish = 0, 0, b"", False
while not finish:
    count += 1
    line = b"%d\n" % count
    assert os.write(descriptor, line) == len(line)
    offset += len(line)
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == offset, "the offset moved by itself"
    assert (os.getpid(), os.getppid()) == (pid, parent), "the pid changed"
    before = time.monotonic()
    time.sleep(0.005)
    assert 0.004 < time.monotonic() - before < 5, "a sleep was wrong"
    while select.select([0], [], [], 0)[0]:
        data = os.read(0, 4096)
        rest += data
        if not data or b"finish\n" in rest:
            finish = True
            break

assert os.fstat(descriptor).st_ino == os.stat(path).st_ino == inode
numbers = open(path, "rb").read().split()
assert numbers == [b"%d" % n for n in range(1, count + 1)], "the file has holes"
os.ftruncate(descriptor, 0)
os.pwrite(descriptor, b"counted well\n", 0)
os.close(descriptor)
print("every number is in the file, in order:", count > 10)
print("the pid stayed")
sys.exit(3)
