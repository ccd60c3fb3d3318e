# A ledger in a database file: many transactions, indices, a view over everything, and a check of the file.
# usage: ledger.sh ROWS
set -u
{
    cat << 'END'
PRAGMA journal_mode = DELETE;
PRAGMA synchronous = OFF;
CREATE TABLE entry (id INTEGER PRIMARY KEY, account INTEGER, amount INTEGER, note TEXT);
CREATE INDEX by_account ON entry (account, amount);
END
    for ((part = 0; part < 10; part++)); do
        cat << END
BEGIN;
WITH RECURSIVE n (i) AS (SELECT $part * $1 + 1 UNION ALL SELECT i + 1 FROM n WHERE i < ($part + 1) * $1)
INSERT INTO entry SELECT i, i * 7919 % 101, i * 104729 % 10007 - 5000, 'entry ' || i || ' ' || hex(i * 31) FROM n;
UPDATE entry SET amount = amount + 1 WHERE account = $part;
DELETE FROM entry WHERE id % 97 = $part;
COMMIT;
SELECT $part, count(*), sum(amount), max(note) FROM entry;
END
    done
    cat << 'END'
SELECT account, count(*), sum(amount), min(note) FROM entry GROUP BY account ORDER BY 3 DESC LIMIT 10;
SELECT count(*) FROM entry a JOIN entry b ON a.account = b.account AND a.amount = -b.amount;
VACUUM;
PRAGMA integrity_check;
END
} | sqlite3 ledger.db
echo "sqlite3: $?"
sqlite3 ledger.db .dump | md5sum
rm ledger.db
