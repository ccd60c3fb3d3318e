"""Maps files and loads C extensions while it is away.

usage: maps.py DIRECTORY

Each line on its input is one step; the first ones come before a move, the later ones after it.
"""
import hashlib
import mmap
import os
import sys

directory = sys.argv[1]
path = os.path.join(directory, "mapped")
data = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(20000))
with open(path, "wb") as file:
    file.write(data)
os.chmod(path, 0o444)


def map_file():
    with open(path, "rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            assert view[:] == data, "the mapped file is not the file"
        with mmap.mmap(file.fileno(), 8192, access=mmap.ACCESS_COPY, offset=4096) as view:
            view[10:15] = b"HELLO"
            assert view[8:18] == data[4104:4106] + b"HELLO" + data[4111:4114]
    with open(path, "rb") as file:
        assert file.read() == data, "a private change reached the file"


def use_sqlite():
    import sqlite3
    base = sqlite3.connect(os.path.join(directory, "base.sqlite"))
    base.execute("create table if not exists t (n integer, s text)")
    base.execute("delete from t")
    base.executemany("insert into t values (?, ?)", ((n, "x" * n) for n in range(200)))
    base.commit()
    assert base.execute("select sum(n), sum(length(s)) from t").fetchone() == (19900, 19900)
    base.close()
    os.unlink(os.path.join(directory, "base.sqlite"))


def use_decimal():
    import decimal
    decimal.getcontext().prec = 60
    assert str(decimal.Decimal(2).sqrt())[:20] == "1.414213562373095048"


def use_ctypes():
    import ctypes
    library = ctypes.CDLL(None)
    assert library.abs(-5) == 5
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    numbers = (ctypes.c_int * 5)(5, 1, 4, 2, 3)
    library.qsort(numbers, 5, 4, compare(lambda a, b: a[0] - b[0]))
    assert list(numbers) == [1, 2, 3, 4, 5]


def use_random():
    import random
    import zlib
    import bz2
    import lzma
    text = bytes(random.Random(1).choices(range(97, 123), k=20000))
    for module in zlib, bz2, lzma:
        assert module.decompress(module.compress(text)) == text


tasks = [map_file, use_sqlite, use_decimal, use_ctypes, use_random]
print("ready", flush=True)
done = 0
for line in sys.stdin:
    if line == "finish\n":
        break
    tasks[done % len(tasks)]()
    map_file()
    done += 1
for task in tasks:
    task()
os.unlink(path)
print("maps: files and extensions loaded while away are what they are at home")
