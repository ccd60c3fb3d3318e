"""Objects, strings, big numbers and two threads, until told to finish."""
import hashlib
import select
import sys
import threading


def one_round():
    numbers = {n: pow(3, n, 10 ** 40) for n in range(3000)}
    words = sorted("%x" % value for value in numbers.values())
    return hashlib.sha256(" ".join(words).encode()).hexdigest()


results = set()
stop = threading.Event()


def beside():
    while not stop.wait(0.001):
        results.add(one_round())


helper = threading.Thread(target=beside)
helper.start()
results.add(one_round())
print("ready", flush=True)
while True:
    results.add(one_round())
    if select.select([sys.stdin], [], [], 0)[0] and sys.stdin.readline() in ("finish\n", ""):
        break
stop.set()
helper.join()
assert len(results) == 1, "the rounds differ"
print("compute.py:", results.pop())
