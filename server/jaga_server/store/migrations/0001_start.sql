-- Small numbers stand for the long names in the tables that grow.
CREATE TABLE site (
    site_no INTEGER PRIMARY KEY,
    site TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE boot (
    boot_no INTEGER PRIMARY KEY,
    site_no INTEGER NOT NULL REFERENCES site,
    boot BLOB NOT NULL,
    first_arrival_ms INTEGER NOT NULL,
    -- wall_ms − at_ms of the first record whose clock was confirmed: dates every record
    -- of this boot, also those that came before (they keep at_ms).
    offset_ms INTEGER,
    UNIQUE (site_no, boot)
) STRICT;

-- One row for each heartbeat or event, whatever it holds: (site, boot, seq) is stored
-- once, for ever. This is what makes a repeat harmless.
CREATE TABLE record (
    boot_no INTEGER NOT NULL REFERENCES boot,
    seq INTEGER NOT NULL,
    leaf TEXT NOT NULL,
    t_ms INTEGER NOT NULL,        -- event time
    arrival_ms INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,       -- since boot
    wall_ms INTEGER NOT NULL,     -- by the site's own clock
    clock_age_s INTEGER NOT NULL, -- −1: that clock was never confirmed
    PRIMARY KEY (boot_no, seq)
) STRICT, WITHOUT ROWID;

-- Keyed by minute, then site: new rows fall into one minute's pages (the cost of a key by
-- time), and one site's hour is 60 short seeks (nearly the cost of a key by site).
-- docs/decisions/sample-key.md has the measurements.
CREATE TABLE sample (
    minute INTEGER NOT NULL,      -- t_ms / 60000
    site_no INTEGER NOT NULL,
    t_ms INTEGER NOT NULL,
    boot_no INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    uplink TEXT NOT NULL,
    health INTEGER NOT NULL,
    active INTEGER NOT NULL,
    mode INTEGER NOT NULL,
    sent INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    not_sent INTEGER NOT NULL,
    rtt_min_us INTEGER,
    rtt_mean_us INTEGER,
    rtt_max_us INTEGER,
    rx_bytes INTEGER,
    tx_bytes INTEGER,
    signal_dbm INTEGER,
    PRIMARY KEY (minute, site_no, t_ms, boot_no, seq, uplink)
) STRICT, WITHOUT ROWID;

CREATE TABLE host_sample (
    minute INTEGER NOT NULL,
    site_no INTEGER NOT NULL,
    t_ms INTEGER NOT NULL,
    boot_no INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    uptime_s INTEGER NOT NULL,
    cpu_permille INTEGER,
    memory_permille INTEGER,
    disk_permille INTEGER,
    temperature_decidegc INTEGER,
    PRIMARY KEY (minute, site_no, t_ms, boot_no, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    t_ms INTEGER NOT NULL,
    boot_no INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    site_no INTEGER NOT NULL,
    kind TEXT NOT NULL,
    rule TEXT,
    uplink TEXT,
    old TEXT,
    new TEXT,
    reason TEXT NOT NULL,
    detected_ms INTEGER,
    switched_ms INTEGER,
    evidence TEXT NOT NULL,       -- JSON object
    PRIMARY KEY (t_ms, boot_no, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX event_of_site ON event (site_no, t_ms);

-- What a restarted collector knows at once, written with the records it follows from.
CREATE TABLE site_state (
    site_no INTEGER PRIMARY KEY REFERENCES site,
    state BLOB NOT NULL           -- core.model.SiteState as MessagePack
) STRICT;

CREATE TABLE collector (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    heard_ms INTEGER NOT NULL,    -- the hearing clock's reading
    last_message_ms INTEGER
) STRICT;
INSERT INTO collector VALUES (1, 0, NULL);

-- Payloads that can never be stored; the oldest go first.
CREATE TABLE dead_letter (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    arrival_ms INTEGER NOT NULL,
    topic TEXT NOT NULL,
    reason TEXT NOT NULL,
    payload BLOB NOT NULL
) STRICT;
