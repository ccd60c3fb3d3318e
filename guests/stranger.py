"""Says wrong things to a daemon's port or socket, and goes away; the daemon must not mind.

usage: stranger.py tcp ADDRESS PORT [SESSION] | unix PATH

With a session, everything follows a good preamble: it reaches that session's warden.
"""
import json
import os
import random
import socket
import struct
import sys
import time

random.seed(4660)


session = bytes.fromhex(sys.argv[4]) if len(sys.argv) > 4 else b""


def connect():
    if sys.argv[1] == "tcp":
        stream = socket.create_connection((sys.argv[2], int(sys.argv[3])), timeout=10)
        if session:
            stream.sendall(b"OMX1\1\2\0\0" + session)
        return stream
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(10)
    stream.connect(sys.argv[2])
    return stream


def say(data, wait=0.0):
    try:
        with connect() as stream:
            stream.sendall(data)
            time.sleep(wait)
            stream.settimeout(0.05)
            try:
                stream.recv(65536)
            except OSError:
                pass
    except OSError:
        pass  # To be turned away is an answer, too.


noise = [random.randbytes(n) for n in (1, 2, 3, 4, 7, 8, 15, 16, 31, 64, 1000, 70000)]
headers = [struct.pack(form, value) for form in ("<I", ">I", "<Q", ">Q") for value in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF)]
web = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + random.randbytes(40)]
lines = [json.dumps(value).encode() + b"\n" for value in (
    {}, [], None, 1, "x", {"op": "migrate"}, {"op": "migrate", "pid": "x", "to": "home"},
    {"op": "migrate", "pid": -1, "to": "home"}, {"op": "migrate", "pid": 2 ** 40, "to": {"node": 2}},
    {"op": "migrate", "pid": 1, "to": {"node": 0}}, {"op": "where", "pid": 1, "more": 2}, {"op": "nothing"},
    {"op": "ps", "op2": "ps"}, {"op": "expel", "pid": 1, "home": 1}, {"event": "done"})]
lines += [b"\n", b"\0\0\0\n", b"\xff\xfe\n", b"{" * 100000 + b"\n", b"[" * 200000, b'{"op":"ps"', b'{"op":"ps"}' * 1000,
          b'{"op":"where","pid":1}\n' * 2000, b"x" * 3000000, b'"' + b"y" * 1000000 + b'"\n']

for data in noise + headers + [h + random.randbytes(100) for h in headers] + web + lines:
    say(data)
for data in noise[:4] + lines[:3]:
    for end in range(1, len(data)):
        say(data[:end])
say(b"O", wait=1.0)

crowd = []
try:
    for _ in range(400):
        crowd.append(connect())
except OSError:
    pass
for stream in crowd:
    stream.close()
for _ in range(200):
    # Goes away with a reset instead of an end.
    try:
        stream = connect()
        if sys.argv[1] == "tcp":
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.send(os.urandom(10))
        stream.close()
    except OSError:
        pass
print("said everything")
