"""Compares keys for the table of samples (docs/decisions/sample-key.md).

.venv/bin/python tests/bench/sample_key.py
"""

from __future__ import annotations

import random
import sqlite3
import tempfile
import time
from pathlib import Path

SITES, INTERVAL_MS, BEATS = 702, 10_000, 720
START_MS = 1_790_000_000_000 // 300_000 * 300_000
HOUR_MS = 3_600_000
COLUMNS = "five,minute,t,site,boot,seq,u,h,m,sent,lost,a,b,c,rx,tx,sig"
KEYS = {
    "time, site": "t,site,boot,seq,u",
    "time, site + index (site, time)": "t,site,boot,seq,u",
    "site, time": "site,t,boot,seq,u",
    "five minutes, site, time": "five,site,t,boot,seq,u",
    "minute, site, time": "minute,site,t,boot,seq,u",
}
clock = time.perf_counter


def rows(first, beats):
    order = list(range(SITES))
    for beat in range(first, first + beats):
        random.shuffle(order)
        for place, site in enumerate(order):
            t = START_MS + beat * INTERVAL_MS + place * INTERVAL_MS // SITES
            for uplink in range(3 if site % 2 else 2):
                yield (
                    *(t // 300_000, t // 60_000, t, site, site * 3, beat, uplink, 1, 2),
                    *(10, 0, 31_000, 40_000, 55_000, 123_456, 65_432, -71),
                )


def query(name):
    where = "site = :site AND t BETWEEN :first AND :last"
    for column, width in (("five", 300_000), ("minute", 60_000)):
        if name.startswith(column):
            span = f"VALUES(:first/{width}) UNION ALL SELECT n+1 FROM k WHERE n < :last/{width}"  # noqa: S608 (our own)
            join = f"CROSS JOIN x ON {column} = n WHERE {where}"
            return (
                f"WITH RECURSIVE k(n) AS ({span}) SELECT count(*), sum(a) FROM k {join}"  # noqa: S608 (our own)
            )
    return f"SELECT count(*), sum(a) FROM x WHERE {where}"  # noqa: S608 (our own)


def insert(db, data, batch):
    sql = f"INSERT INTO x VALUES ({','.join('?' * 17)})"  # noqa: S608 (question marks)
    began = clock()
    for n in range(0, len(data), batch):
        db.execute("BEGIN")
        db.executemany(sql, data[n : n + batch])
        db.execute("COMMIT")
    return len(data) / (clock() - began)


def measure(name, key, path, data, small):
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"CREATE TABLE x ({COLUMNS}, PRIMARY KEY ({key})) WITHOUT ROWID")
    if "index" in name:
        db.execute("CREATE INDEX i ON x (site, t)")
    rate = insert(db, data, 1250)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.execute("PRAGMA wal_autocheckpoint = 0")
    insert(db, small, 10)
    log = Path(f"{path}-wal").stat().st_size / len(small)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    times = []
    last = START_MS + BEATS * INTERVAL_MS
    for site in (5, 100, 333, 600, 701):
        began = clock()
        window = {"site": site, "first": last - HOUR_MS, "last": last}
        assert db.execute(query(name), window).fetchone()[0] >= 720
        times.append(clock() - began)
    db.close()
    print(
        f"{name:32} {rate:8.0f} rows/s  log {log:5.0f} B/row "
        f" hour {sorted(times)[2] * 1000:6.2f} ms",
        flush=True,
    )


def main():
    data, small = list(rows(0, BEATS)), list(rows(BEATS, 3))
    with tempfile.TemporaryDirectory(prefix="jaga-bench-") as folder:
        for n, (name, key) in enumerate(KEYS.items()):
            measure(name, key, Path(folder) / f"{n}.db", data, small)


if __name__ == "__main__":
    main()
