-- Names this database to the sites (a restored backup keeps the name), and the highest
-- revision of a watermark that was ever given out.
ALTER TABLE collector ADD COLUMN store BLOB NOT NULL DEFAULT x'0000000000000000';
ALTER TABLE collector ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
UPDATE collector SET store = randomblob(8);

-- How old the clock's confirmation behind offset_ms was (core.dating).
ALTER TABLE boot ADD COLUMN offset_age_s INTEGER;
UPDATE boot SET offset_age_s = 0 WHERE offset_ms IS NOT NULL;
-- Last arrival of anything of this boot, to the minute.
ALTER TABLE boot ADD COLUMN touched_ms INTEGER NOT NULL DEFAULT 0;
UPDATE boot SET touched_ms = coalesce(
    (SELECT max(arrival_ms) FROM record WHERE record.boot_no = boot.boot_no),
    first_arrival_ms
);

-- Every record as it came, byte for byte: what proves that the other tables are right. An
-- ordinary table, because payloads of all sites then fall into the same pages as they
-- come; keyed WITHOUT ROWID each would write a page of its own (a third of the speed).
CREATE TABLE payload (
    boot_no INTEGER NOT NULL REFERENCES boot,
    seq INTEGER NOT NULL,
    kind INTEGER NOT NULL,        -- wire.evidence.RecordCode
    payload BLOB NOT NULL,
    PRIMARY KEY (boot_no, seq)
) STRICT;

-- Which sequence numbers are settled: stored, or known to be lost. Spans, apart from one
-- another by at least one number (core.coverage).
CREATE TABLE coverage (
    boot_no INTEGER NOT NULL REFERENCES boot,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (boot_no, first)
) STRICT, WITHOUT ROWID;
INSERT INTO coverage
SELECT boot_no, min(seq), max(seq) FROM (
    SELECT boot_no, seq, seq - row_number() OVER (PARTITION BY boot_no ORDER BY seq) AS run
    FROM record WHERE seq >= 1
) GROUP BY boot_no, run;

-- Of them: what the site said that it will never send, and that never came.
CREATE TABLE lost (
    boot_no INTEGER NOT NULL REFERENCES boot,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    booked_ms INTEGER NOT NULL,
    PRIMARY KEY (boot_no, first)
) STRICT, WITHOUT ROWID;

CREATE TABLE histogram (
    site_no INTEGER NOT NULL,
    t_ms INTEGER NOT NULL,        -- event time of its end
    boot_no INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    uplink TEXT NOT NULL,
    duration_ms INTEGER NOT NULL,
    sent INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    not_sent INTEGER NOT NULL,
    first INTEGER,                -- index of the first bucket; NULL: no round trip
    counts TEXT NOT NULL,         -- JSON array; base-2 exponential, scale 3, microseconds
    sum_us INTEGER NOT NULL,
    rx_bytes INTEGER,
    tx_bytes INTEGER,
    unknown_ms INTEGER NOT NULL,  -- how long its health was so
    up_ms INTEGER NOT NULL,
    degraded_ms INTEGER NOT NULL,
    down_ms INTEGER NOT NULL,
    PRIMARY KEY (site_no, t_ms, boot_no, seq, uplink)
) STRICT, WITHOUT ROWID;

CREATE TABLE digest (
    boot_no INTEGER NOT NULL,     -- which boot made it
    seq INTEGER NOT NULL,
    site_no INTEGER NOT NULL,
    of_boot BLOB NOT NULL,        -- whose records first…last it is over
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    missing TEXT NOT NULL,        -- JSON array of [first, last]
    root BLOB NOT NULL,
    prev BLOB NOT NULL,
    certificate BLOB,
    signature BLOB NOT NULL,
    PRIMARY KEY (boot_no, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX digest_of_site ON digest (site_no, of_boot, first);

-- What operators ordered and what the sites answered. The same message again is the same
-- row: `times` says how often it came (again from the broker, or from somebody who
-- replays it).
CREATE TABLE order_log (
    id INTEGER PRIMARY KEY,
    site_no INTEGER NOT NULL REFERENCES site,
    order_id BLOB NOT NULL,
    leaf TEXT NOT NULL,           -- command or reply
    hash BLOB NOT NULL,           -- SHA-256 of the payload
    first_ms INTEGER NOT NULL,    -- arrival
    last_ms INTEGER NOT NULL,
    times INTEGER NOT NULL,
    operator TEXT,                -- from here on: of a command
    action TEXT,
    arguments TEXT,               -- JSON object
    counter INTEGER,
    issued_ms INTEGER,
    expires_ms INTEGER,
    code INTEGER,                 -- from here on: of a reply; wire.orders.ReplyCode
    detail TEXT,
    boot BLOB,
    at_ms INTEGER,
    wall_ms INTEGER,
    clock_age_s INTEGER,
    content BLOB,
    payload BLOB NOT NULL,
    UNIQUE (site_no, order_id, leaf, hash)
) STRICT;

-- Each boot is dated by its one offset, also what came before that was known.
UPDATE record SET t_ms = (
    SELECT min(offset_ms + at_ms, arrival_ms) FROM boot
    WHERE boot.boot_no = record.boot_no
) WHERE boot_no IN (SELECT boot_no FROM boot WHERE offset_ms IS NOT NULL);
UPDATE event SET t_ms = (
    SELECT t_ms FROM record
    WHERE record.boot_no = event.boot_no AND record.seq = event.seq
);
UPDATE sample SET (minute, t_ms) = (
    SELECT t_ms / 60000, t_ms FROM record
    WHERE record.boot_no = sample.boot_no AND record.seq = sample.seq
);
UPDATE host_sample SET (minute, t_ms) = (
    SELECT t_ms / 60000, t_ms FROM record
    WHERE record.boot_no = host_sample.boot_no AND record.seq = host_sample.seq
);
