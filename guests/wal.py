"""A database with a write-ahead log, which maps its index of the log and the database itself; computes in between."""
import hashlib
import os
import sqlite3
import sys

ROWS = 40

database = sqlite3.connect("data.db", isolation_level=None)
database.execute("pragma journal_mode=wal")
database.execute("pragma mmap_size=67108864")
database.execute("pragma wal_autocheckpoint=200")
database.execute("create table words(id integer primary key, word text, number integer)")
seen = hashlib.sha256()
for round in range(int(sys.argv[1])):
    database.execute("begin")
    for id in range(round * ROWS, (round + 1) * ROWS):
        word = hashlib.md5(str(id).encode()).hexdigest() * 20
        database.execute("insert into words values(?, ?, ?)", (id, word, id * 7919 % 10007))
    database.execute("commit")
    if round % 3 == 0:
        database.execute("update words set number = number + 1 where id % 13 = ?", (round % 13,))
    looked = "select count(*), sum(number), max(word) from words where number % 17 = ?"
    seen.update(repr(database.execute(looked, (round % 17,)).fetchone()).encode())
    for _ in range(30):
        seen.update(seen.digest() * 2000)
print(seen.hexdigest(), database.execute("pragma integrity_check").fetchone())
database.close()
for name in sorted(os.listdir(".")):
    if name.startswith("data"):
        with open(name, "rb") as file:
            print(name, hashlib.sha256(file.read()).hexdigest())
