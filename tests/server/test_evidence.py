"""Histories, losses, dates and orders, over a real database."""

import secrets
import sqlite3
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector_lab import ScriptedSite
from jaga_agent.wire.evidence import (
    HistoryItem,
    LostRange,
    RecordCode,
    Watermark,
)
from jaga_agent.wire.messages import HealthCode, decode, encode
from jaga_agent.wire.orders import Command, Order, Reply, ReplyCode
from jaga_server.core.district import Moment
from jaga_server.core.model import Presence, Thresholds
from jaga_server.ingest import batch
from jaga_server.ingest.counters import Counters
from jaga_server.ingest.received import CONFLICT, MALFORMED, Received
from jaga_server.ingest.watermarks import Watermarks, watermark
from jaga_server.store.reader import Reader
from jaga_server.store.sqlite import Store

SITE = "tps-6408012001-001"
T0 = 1_790_000_000_000
HOUR_MS = 3_600_000


class Room:
    """A database, and what is known from it."""

    def __init__(self, path):
        self.store = Store(path)
        self.reader = Reader(path)
        self.states = {}
        self.told = {}
        self.marks = Watermarks(self.store, "6408", Counters(), self._tell)
        self.now_ms = 0

    def _tell(self, topic, payload):
        self.told[topic.split("/")[3]] = decode(payload, Watermark)

    def write(self, *messages, arrival_ms=T0, apart=False):
        outcome = batch.write(
            [
                Received(topic, m if isinstance(m, bytes) else encode(m), arrival_ms, False, None)
                for topic, m in messages
            ],
            self.store,
            known=self.states,
            listed={SITE},
            moment=Moment(arrival_ms, 0),
            thresholds=Thresholds(),
            apart=apart,
        )  # fmt: skip
        self.states |= outcome.states
        self.marks.touch(outcome.touched)
        return outcome

    def send(self, site, *records, lost=(), **more):
        """Store records in one history."""
        return self.write((site.topic("history"), site.history(records, lost)), **more)

    def mark(self, site=SITE, *, after_s=60):
        """Return the watermark that is told after so long; None: none."""
        self.told = {}
        self.now_ms += after_s * 1000
        self.marks.tell(0, self.now_ms, T0 + self.now_ms)
        return self.told.get(site)

    def rows(self, sql, *values):
        db = sqlite3.connect(self.store.path)
        try:
            return db.execute(sql, values).fetchall()
        finally:
            db.close()

    def close(self):
        self.reader.close()
        self.store.close()


@pytest.fixture
def room(tmp_path):
    room = Room(tmp_path / "c.db")
    yield room
    room.close()


@pytest.fixture
def site():
    return ScriptedSite(SITE)


# Histories


def test_a_history_of_every_kind_is_stored_as_it_came(room, site):
    records = [site.heartbeat(), site.event(), site.histogram(), site.digest()]
    outcome = room.send(site, *records)
    assert outcome.items == {"heartbeat": 1, "event": 1, "histogram": 1, "digest": 1}
    assert outcome.stored == {"history": 1}
    stored = room.rows("SELECT seq, kind, payload FROM payload ORDER BY seq")
    assert stored == [(n, n - 1, encode(r)) for n, r in enumerate(records, 1)]
    assert room.rows("SELECT uplink, counts, up_ms FROM histogram ORDER BY uplink") == [
        ("indosat", "[3,290,5]", 300_000),
        ("telkomsel", "[3,290,5]", 300_000),
    ]
    assert room.rows("SELECT of_boot, first, last, signature FROM digest") == [
        (site.boot, 1, 3, b"signed")
    ]
    again = room.send(site, *records, site.heartbeat())
    assert (again.items_duplicate, again.items) == (4, {"heartbeat": 1})
    assert len(room.rows("SELECT 1 FROM record")) == 5


def test_what_came_live_and_again_in_a_history_is_stored_once(room, site):
    beat = site.heartbeat()
    room.write((site.topic("heartbeat"), beat))
    assert room.send(site, beat).items_duplicate == 1
    assert room.write((site.topic("heartbeat"), beat)).duplicate == 1


POISON = {
    "not msgpack": HistoryItem(RecordCode.HEARTBEAT, b"\xc1"),
    "empty": HistoryItem(RecordCode.EVENT, b""),
    "another kind": HistoryItem(
        RecordCode.DIGEST, encode(ScriptedSite(SITE).heartbeat())
    ),
    "no number": HistoryItem(
        RecordCode.EVENT, encode(ScriptedSite(SITE).event(seq=0))
    ),
    "ends before it begins": HistoryItem(
        RecordCode.HISTOGRAM, encode(ScriptedSite(SITE).histogram(begin_ms=2**40))
    ),
}  # fmt: skip


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
def test_one_bad_item_buries_itself_alone(room, site, poison):
    records = [site.heartbeat(), poison, site.event()]
    outcome = room.send(site, *records)
    assert outcome.items == {"heartbeat": 1, "event": 1}
    assert [refusal.reason for _, refusal in outcome.items_rejected] == [MALFORMED]
    assert room.rows("SELECT reason, payload FROM dead_letter") == [
        (MALFORMED, poison.payload)
    ]


def test_an_item_that_never_fits_harms_no_other(room, site, monkeypatch):
    from jaga_server.store import rows

    real = rows.insert

    def insert(db, boot_no, site_no, record, t_ms):
        if record.seq == 2:
            db.execute("SELECT ?", (2**63,))
        real(db, boot_no, site_no, record, t_ms)

    monkeypatch.setattr(rows, "insert", insert)
    records = [site.heartbeat() for _ in range(4)]
    outcome = room.send(site, *records, apart=True)
    assert outcome.items == {"heartbeat": 3}
    assert [r[0] for r in room.rows("SELECT seq FROM record")] == [1, 3, 4]
    assert [r[0] for r in room.rows("SELECT seq FROM payload")] == [1, 3, 4]
    (mark,) = room.mark().boots
    assert (mark.through, mark.highest, mark.gaps) == (1, 4, ((2, 2),))


@pytest.mark.parametrize("packed", [b"not deflate", b"\x00" * 40])
def test_a_history_that_cannot_be_unpacked_is_buried(room, site, packed):
    history = site.history([])
    bad = type(history)(packed, ())
    outcome = room.write((site.topic("history"), bad))
    assert [refusal.reason for _, refusal in outcome.rejected] == [MALFORMED]


def test_other_bytes_under_a_known_number_are_refused_and_kept(room, site):
    first = site.heartbeat()
    room.write((site.topic("heartbeat"), first))
    other = site.heartbeat(seq=first.seq, active="indosat")
    live = room.write((site.topic("heartbeat"), other))
    late = room.send(site, other)
    assert [r.reason for _, r in live.rejected] == [CONFLICT]
    assert [r.reason for _, r in late.items_rejected] == [CONFLICT]
    assert room.rows("SELECT payload FROM payload") == [(encode(first),)]
    assert room.rows("SELECT payload FROM dead_letter") == [(encode(other),)] * 2


def test_history_tells_nothing_of_now(room, site):
    old = [
        site.heartbeat(t_ms=T0 - 7_200_000 + n * 10_000, health={"indosat": HealthCode.DOWN})
        for n in range(5)
    ]  # fmt: skip
    raised = site.event(t_ms=T0 - 7_100_000)
    live = site.heartbeat(t_ms=T0 - 50)
    room.write((site.topic("heartbeat"), live))
    before = room.states[SITE]
    outcome = room.send(site, *old, raised, arrival_ms=T0 + 5000)
    assert outcome.events == []
    assert room.states[SITE] == before
    # For its own time it counts.
    samples = room.reader.samples(SITE, T0 - HOUR_MS * 3, T0 - HOUR_MS)
    assert len(samples["indosat"]) == 5
    assert [e.t_ms for e in room.reader.events(5)] == [T0 - 7_100_000]


def test_history_alone_brings_no_site_to_life(room, site):
    room.send(site, site.heartbeat(t_ms=T0 - 100))
    assert room.states[SITE].presence is Presence.NEVER
    assert room.states[SITE].last_heard_ms is None


def test_history_of_the_last_minutes_fills_the_loss_figures(room, site):
    missed = site.heartbeat(t_ms=T0 - 20_000)
    live = site.heartbeat(t_ms=T0 - 10_000)
    room.write((site.topic("heartbeat"), live))
    room.send(site, missed)
    probes = room.states[SITE].memory["telkomsel"].probes
    assert [p.t_ms for p in probes] == [T0 - 20_000, T0 - 10_000]
    assert room.states[SITE].beat.seq == live.seq


# What is missing, what is lost


def test_gaps_and_losses_in_the_watermark(room, site):
    beats = [site.heartbeat() for _ in range(10)]
    room.write(*((site.topic("heartbeat"), beats[n]) for n in (0, 1, 4, 9)))
    (mark,) = room.mark().boots
    assert (mark.boot, mark.through, mark.highest) == (site.boot, 2, 10)
    assert mark.gaps == ((3, 4), (6, 9))
    assert room.reader.tally(SITE, site.boot).missing == 6
    outcome = room.send(site, beats[2], lost=[LostRange(site.boot, 4, 8)])
    assert outcome.lost == 4
    (mark,) = room.mark().boots
    assert (mark.through, mark.highest, mark.gaps) == (8, 10, ((9, 9),))
    tally = room.reader.tally(SITE, site.boot)
    assert (tally.lost, tally.missing) == (4, 1)
    # Said again it is no more; and what then comes nevertheless is not lost.
    assert room.send(site, lost=[LostRange(site.boot, 4, 8)]).lost == 0
    room.send(site, beats[3], beats[8])
    (mark,) = room.mark().boots
    assert (mark.through, mark.highest, mark.gaps) == (10, 10, ())
    assert room.rows("SELECT first, last FROM lost") == [(6, 8)]
    assert room.rows("SELECT first, last FROM coverage") == [(1, 10)]
    (boot,) = room.reader.incomplete()
    assert (boot.site, boot.coverage.lost) == (SITE, ((6, 8),))


@pytest.mark.parametrize("span", [(0, 3), (5, 4)])
def test_a_range_that_is_none_is_refused(room, site, span):
    outcome = room.send(site, site.heartbeat(), lost=[LostRange(site.boot, *span)])
    assert [r.reason for _, r in outcome.items_rejected] == [MALFORMED]
    assert (outcome.items, outcome.lost) == ({"heartbeat": 1}, 0)


def test_no_more_gaps_than_the_wire_takes(room, site):
    beats = [site.heartbeat() for _ in range(80)]
    room.write(*((site.topic("heartbeat"), beat) for beat in beats[::2]))
    (mark,) = room.mark().boots
    assert (len(mark.gaps), mark.through, mark.highest) == (16, 1, 33)


def test_the_eight_boots_touched_last(room):
    boots = [ScriptedSite(SITE) for _ in range(10)]
    for n, one in enumerate(boots):
        room.write(
            (one.topic("heartbeat"), one.heartbeat()), arrival_ms=T0 + n * 60_000
        )
    room.send(boots[0], boots[0].heartbeat(), arrival_ms=T0 + HOUR_MS)
    told = [mark.boot for mark in room.mark().boots]
    assert told == [boots[n].boot for n in (0, 9, 8, 7, 6, 5, 4, 3)]


def test_when_a_site_is_told(room, site):
    def tell():
        room.write((site.topic("heartbeat"), site.heartbeat()))

    tell()
    assert room.mark(after_s=0)
    tell()
    assert room.mark(after_s=30) is None
    assert room.mark(after_s=30)
    # A gap opens: soon. It closes: soon.
    skipped = site.heartbeat()
    tell()
    assert room.mark(after_s=5).boots[0].gaps == ((skipped.seq, skipped.seq),)
    room.write((site.topic("heartbeat"), skipped))
    assert room.mark(after_s=4) is None
    assert room.mark(after_s=1).boots[0].gaps == ()
    # A history of what is stored already: the site did not know, so it is told.
    room.send(site, skipped)
    assert room.mark(after_s=5)
    assert room.mark(after_s=1000) is None


def test_a_batch_that_closes_its_own_gap_presses_nobody(room, site):
    room.write((site.topic("heartbeat"), site.heartbeat()))
    room.mark()
    one, two = site.heartbeat(), site.heartbeat()
    room.write((site.topic("heartbeat"), two), (site.topic("heartbeat"), one))
    assert room.mark(after_s=10) is None


def test_a_failed_commit_changes_no_coverage(room, site, monkeypatch):
    beats = [site.heartbeat() for _ in range(3)]
    room.write((site.topic("heartbeat"), beats[0]))

    def full(*_):
        message = "database or disk is full"
        raise sqlite3.OperationalError(message)

    with monkeypatch.context() as patch:
        patch.setattr(room.store, "save_hearing", full)
        with pytest.raises(Exception, match="disk is full"):
            room.write((site.topic("heartbeat"), beats[1]))
    room.write((site.topic("heartbeat"), beats[2]))
    (mark,) = room.mark().boots
    assert (mark.through, mark.gaps) == (1, ((2, 2),))


def test_what_another_process_wrote_is_seen(room, site):
    first, second, third = (site.heartbeat() for _ in range(3))
    room.write((site.topic("heartbeat"), first))
    other = Room(room.store.path)
    other.write((site.topic("heartbeat"), second))
    room.write((site.topic("heartbeat"), third))
    other.close()
    (mark,) = room.mark().boots
    assert (mark.through, mark.gaps) == (3, ())


def test_a_replaced_file_takes_nothing_more(room, site, tmp_path):
    from jaga_server.errors import StoreReplacedError

    room.write((site.topic("heartbeat"), site.heartbeat()))
    Store(tmp_path / "other.db").close()
    (tmp_path / "other.db").replace(room.store.path)
    with pytest.raises(StoreReplacedError, match="stop the collector first"):
        room.write((site.topic("heartbeat"), site.heartbeat()))


def test_revisions_rise_also_when_the_clock_goes_back(room, site):
    revisions = []
    for wall_ms in (T0, T0, T0 - HOUR_MS, T0 + 5, T0 + 5):
        with room.store.transaction():
            revisions += room.store.next_revisions(2, wall_ms)
    assert revisions == sorted(set(revisions))
    again = Store(room.store.path)
    with again.transaction():
        assert again.next_revisions(1, T0 - HOUR_MS)[0] > revisions[-1]
    assert again.identity == room.store.identity
    assert len(again.identity) == 8
    again.close()


def test_each_database_has_a_name_of_its_own(room, tmp_path):
    other = Store(tmp_path / "other.db")
    assert other.identity != room.store.identity
    other.close()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["live", "history", "lost", "restart"]),
        st.integers(0, 1),
        st.lists(st.integers(0, 19), min_size=1, max_size=6, unique=True),
    ),
    max_size=12,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_whatever_comes_the_watermark_is_what_the_tables_hold(tmp_path, steps):
    path = tmp_path / f"{secrets.token_hex(4)}.db"
    room = Room(path)
    boots = [ScriptedSite(SITE) for _ in range(2)]
    beats = [[one.heartbeat() for _ in range(20)] for one in boots]
    lost = [set(), set()]
    for what, n, numbers in steps:
        chosen = [beats[n][number] for number in numbers]
        if what == "live":
            room.write(*((boots[n].topic("heartbeat"), beat) for beat in chosen))
        elif what == "history":
            room.send(boots[n], *chosen)
        elif what == "lost":
            first, last = min(numbers) + 1, max(numbers) + 1
            room.send(boots[n], lost=[LostRange(boots[n].boot, first, last)])
            lost[n] |= set(range(first, last + 1))
        else:
            room.close()
            room = Room(path)
    for n, one in enumerate(boots):
        stored = {
            seq
            for (seq,) in room.rows(
                "SELECT seq FROM record JOIN boot USING (boot_no) WHERE boot = ?",
                one.boot,
            )
        }
        coverage = dict(room.store.recent_boots(SITE, 8)).get(one.boot)
        held = {
            seq
            for first, last in (coverage.held if coverage else ())
            for seq in range(first, last + 1)
        }
        gone = {
            seq
            for first, last in (coverage.lost if coverage else ())
            for seq in range(first, last + 1)
        }
        assert held == stored | lost[n]
        assert gone == lost[n] - stored
    room.close()


# Dates


def undated(site, n):
    told = site.heartbeat(t_ms=T0 - 100_000 + n * 10_000, clock_age_s=-1)
    return type(told)(**{f: getattr(told, f) for f in told.__struct_fields__} | {"wall_ms": 777})  # fmt: skip


def test_one_confirmed_record_dates_all_of_its_boot(room):
    site = ScriptedSite(SITE, started_ms=T0 - 200_000)
    room.write((site.topic("heartbeat"), undated(site, 0)))
    told = site.event(t_ms=T0 - 90_000, clock_age_s=-1)
    room.write((site.topic("event"), told))
    room.send(site, site.histogram(t_ms=T0 - 85_000, clock_age_s=-1))
    window = (T0 - 300_000, T0)
    before = room.reader.samples(SITE, *window)["telkomsel"]
    assert [(s.t_ms - T0, s.by_clock) for s in before] == [(0, False)]
    assert [(e.t_ms - T0, e.by_clock) for e in room.reader.events(1)] == [(0, False)]
    room.write((site.topic("heartbeat"), site.heartbeat(t_ms=T0 - 80_000)))
    after = room.reader.samples(SITE, *window)["telkomsel"]
    assert [(s.t_ms - T0, s.by_clock) for s in after] == [
        (-100_000, True),
        (-80_000, True),
    ]
    assert [(e.t_ms - T0, e.by_clock) for e in room.reader.events(1)] == [
        (-90_000, True)
    ]
    assert room.rows("SELECT DISTINCT t_ms FROM histogram") == [(T0 - 85_000,)]
    assert room.rows("SELECT minute * 60000 <= t_ms, t_ms < minute * 60000 + 60000 FROM sample UNION SELECT minute * 60000 <= t_ms, t_ms < minute * 60000 + 60000 FROM host_sample") == [(1, 1)]  # fmt: skip


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS])
def test_a_clock_that_jumps_bends_nothing(room, jump_ms):
    site = ScriptedSite(SITE, started_ms=T0 - 200_000)
    for n in range(6):
        beat = site.heartbeat(t_ms=T0 - 100_000 + n * 10_000, clock_age_s=5 + n * 10)
        if n >= 3:
            beat = type(beat)(**{f: getattr(beat, f) for f in beat.__struct_fields__} | {"wall_ms": beat.wall_ms + jump_ms})  # fmt: skip
        room.write((site.topic("heartbeat"), beat))
    samples = room.reader.samples(SITE, T0 - 300_000, T0 + 2 * HOUR_MS)["telkomsel"]
    assert [s.t_ms - T0 for s in samples] == [-100_000 + n * 10_000 for n in range(6)]


def test_a_better_confirmation_dates_anew(room):
    site = ScriptedSite(SITE, started_ms=T0 - 200_000)
    # Its clock is ten seconds slow after half a day without a word; then it is set.
    slow = site.heartbeat(t_ms=T0 - 100_000, clock_age_s=40_000)
    slow = type(slow)(**{f: getattr(slow, f) for f in slow.__struct_fields__} | {"wall_ms": slow.wall_ms - 10_000})  # fmt: skip
    room.write((site.topic("heartbeat"), slow))
    (sample,) = room.reader.samples(SITE, T0 - 300_000, T0)["telkomsel"]
    assert sample.t_ms == T0 - 110_000
    room.write((site.topic("heartbeat"), site.heartbeat(t_ms=T0 - 90_000, clock_age_s=1)))  # fmt: skip
    samples = room.reader.samples(SITE, T0 - 300_000, T0)["telkomsel"]
    assert [s.t_ms - T0 for s in samples] == [-100_000, -90_000]


# Orders


def test_orders_and_answers_are_kept(room, site):
    order = Order(
        secrets.token_bytes(16), "6408", SITE, "rina", 7, T0, T0 + 60_000,
        "switch-to", {"uplink": "indosat"},
    )  # fmt: skip
    command = Command(encode(order), b"signature")
    reply = Reply(order.id, ReplyCode.DONE, "moved", site.boot, 5, T0, 3, b"{}")
    room.write((site.topic("command"), command), (site.topic("reply"), reply))
    again = room.write((site.topic("command"), command), arrival_ms=T0 + 9000)
    assert (again.duplicate, again.stored) == (1, {})
    assert room.rows(
        "SELECT site, leaf, order_id, operator, action, arguments, counter, times,"
        " first_ms, last_ms, code, detail, content FROM order_log"
        " JOIN site USING (site_no) ORDER BY leaf"
    ) == [
        (SITE, "command", order.id, "rina", "switch-to", '{"uplink":"indosat"}', 7, 2,
         T0, T0 + 9000, None, None, None),
        (SITE, "reply", order.id, None, None, None, None, 1,
         T0, T0, 2, "moved", b"{}"),
    ]  # fmt: skip
    bad = room.write((site.topic("command"), Command(b"\xc1", b"")))
    assert [r.reason for _, r in bad.rejected] == [MALFORMED]
    # An order is nothing that the site said.
    assert room.states[SITE].presence is Presence.NEVER


# An older database


def test_a_database_of_the_first_version_is_brought_up_to_date(tmp_path):
    from jaga_server.store.opening import APPLICATION_ID, migrations

    path = tmp_path / "old.db"
    db = sqlite3.connect(path)
    db.executescript(migrations()[0][1])
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute("PRAGMA user_version = 1")
    db.execute("INSERT INTO site VALUES (1, ?)", (SITE,))
    db.execute("INSERT INTO boot VALUES (1, 1, ?, ?, ?)", (b"\1" * 8, T0, T0 - 100_000))
    for seq in (1, 2, 5, 6, 9):
        # Dated by arrival, before the offset was known.
        db.execute(
            "INSERT INTO record VALUES (1, ?, 'heartbeat', ?, ?, ?, 0, -1)",
            (seq, T0 + seq, T0 + seq, seq * 1000),
        )
        db.execute(
            "INSERT INTO host_sample VALUES (?, 1, ?, 1, ?, 1, 1, 1, 1, 1)",
            ((T0 + seq) // 60_000, T0 + seq, seq),
        )
    db.commit()
    db.close()
    room = Room(path)
    (known,) = room.store.recent_boots(SITE, 8)
    assert known[1].held == ((1, 2), (5, 6), (9, 9))
    want = [(T0 - 100_000 + seq * 1000,) for seq in (1, 2, 5, 6, 9)]
    assert room.rows("SELECT t_ms FROM record") == want
    assert room.rows("SELECT t_ms FROM host_sample ORDER BY seq") == want
    assert room.rows("SELECT count(*) FROM host_sample WHERE minute != t_ms / 60000") == [(0,)]  # fmt: skip
    room.close()


def test_a_watermark_of_a_site_with_the_most_to_say_fits_the_wire():
    from jaga_server.core.coverage import Coverage

    torn = Coverage()
    for seq in range(10**9, 10**9 + 400, 2):
        torn = torn.stored(seq)
    boots = [(bytes([n]) * 8, replace(torn)) for n in range(12)]
    payload = encode(watermark(bytes(8), T0, boots))
    assert len(payload) < 2000
    told = decode(payload, Watermark)
    assert [len(mark.gaps) for mark in told.boots] == [16] * 8
