"""Collects reasons that confine it to its home, and lets go of all of them when it is told to; has threads besides."""
import ctypes
import mmap
import os
import sys
import threading

libc = ctypes.CDLL(None, use_errno=True)
done = threading.Event()
threads = [threading.Thread(target=done.wait) for _ in range(3)]
for thread in threads:
    thread.start()

word = mmap.mmap(-1, 4096, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
with open(sys.argv[1], "w+b") as file:
    file.truncate(4096)
    shared = mmap.mmap(file.fileno(), 4096)
held, hold = os.pipe()
sharer = os.fork()
if sharer == 0:
    os.close(hold)
    os.read(held, 1)
    os._exit(0)
locked = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
address = ctypes.addressof(ctypes.c_char.from_buffer(locked))
if libc.mlock(ctypes.c_void_p(address), 4096) != 0:
    sys.exit("cannot lock memory")
signals = libc.signalfd(-1, ctypes.create_string_buffer(128), 0)
if signals < 0:
    sys.exit("cannot make a signalfd")
print("ready", flush=True)

sys.stdin.readline()
word.close()
os.close(hold)
os.waitpid(sharer, 0)
shared.close()
os.close(signals)
if libc.munlock(ctypes.c_void_p(address), 4096) != 0:
    sys.exit("cannot unlock memory")
print("free", flush=True)

sys.stdin.readline()
done.set()
for thread in threads:
    thread.join()
print("unharmed")
