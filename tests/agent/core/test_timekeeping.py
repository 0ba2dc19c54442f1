"""Which UTC is held: order of trust, contradictions, and steps of the wall clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_agent.core import clock_sample, timekeeping
from jaga_agent.core.clock_sample import DRIFT_RATIO
from jaga_agent.core.stamps import Stamp
from jaga_agent.core.timekeeping import (
    KERNEL_LIMIT_US,
    CertificateTime,
    NtpState,
    Reading,
    Source,
    Timekeeping,
)

MS = 1_000_000
S = 1_000_000_000
HOUR = 3600 * S
EPOCH = 1_795_000_000 * S
"""UTC when boot time was 0."""
FLOOR_S = 1_790_000_000
NTP, REFLECTOR, HTTP, MODEM = (
    Source.NTP,
    Source.REFLECTOR,
    Source.HTTP_DATE,
    Source.MODEM,
)
UNSYNC = NtpState(KERNEL_LIMIT_US, KERNEL_LIMIT_US, 0)
SYNC = NtpState(2_000, 0, 0)


def reading(source, at_s, *, off_ms=0, within_ms=30, told_ago_s=0):
    boot_ns = at_s * S
    told_ns = boot_ns - told_ago_s * S
    return Reading(source, boot_ns, EPOCH + off_ms * MS, within_ms * MS, told_ns)


def heard(*readings, keeping=None):
    keeping = keeping or Timekeeping()
    for one in readings:
        keeping = timekeeping.hear(keeping, one, floor_s=FLOOR_S)
    return keeping


def off_ms(keeping):
    return (keeping.held.epoch_ns - EPOCH) / MS


# name: (readings in turn, who is held then, and by how many ms it is off)
CASES = {
    "the first one is believed": (
        [reading(HTTP, 10, off_ms=400, within_ms=600)],
        HTTP,
        400,
    ),
    "more trusted and more exact": (
        [reading(HTTP, 10, off_ms=400, within_ms=600), reading(REFLECTOR, 20)],
        REFLECTOR,
        0,
    ),
    "more trusted but vaguer lends its name": (
        [reading(REFLECTOR, 10, off_ms=2), reading(NTP, 20, off_ms=90, within_ms=300)],
        NTP,
        2,
    ),
    "less trusted but more exact lends its figure": (
        [reading(NTP, 10, off_ms=90, within_ms=300), reading(REFLECTOR, 20, off_ms=2)],
        NTP,
        2,
    ),
    "more trusted and contradicts: at once": (
        [reading(HTTP, 10, off_ms=90_000, within_ms=600), reading(REFLECTOR, 20)],
        REFLECTOR,
        0,
    ),
    "less trusted and contradicts: never": (
        [
            reading(REFLECTOR, 10),
            *(reading(HTTP, t, off_ms=90_000, within_ms=600) for t in (20, 600, 1800)),
        ],
        REFLECTOR,
        0,
    ),
    "less trusted, and the trusted one is long silent: the second time": (
        [
            reading(REFLECTOR, 10),
            reading(HTTP, 3700, off_ms=90_000, within_ms=600),
            reading(HTTP, 4600, off_ms=90_400, within_ms=600),
        ],
        HTTP,
        90_400,
    ),
    "the same source contradicts: once is nothing": (
        [reading(REFLECTOR, 10), reading(REFLECTOR, 60, off_ms=5000)],
        REFLECTOR,
        0,
    ),
    "the same source contradicts: twice within a moment is nothing": (
        [
            reading(REFLECTOR, 10),
            reading(REFLECTOR, 60, off_ms=5000),
            reading(REFLECTOR, 61, off_ms=5000),
        ],
        REFLECTOR,
        0,
    ),
    "the same source contradicts and stays at it": (
        [
            reading(REFLECTOR, 10),
            reading(REFLECTOR, 60, off_ms=5000),
            reading(REFLECTOR, 90, off_ms=5000),
        ],
        REFLECTOR,
        5000,
    ),
    "confirmed in between, the contradiction is forgotten": (
        [
            reading(REFLECTOR, 10),
            reading(REFLECTOR, 60, off_ms=5000),
            reading(REFLECTOR, 70, off_ms=1),
            reading(REFLECTOR, 90, off_ms=5000),
        ],
        REFLECTOR,
        1,
    ),
    "NTP sets its own clock: at once": (
        [reading(NTP, 10, off_ms=5000, within_ms=110), reading(NTP, 20, within_ms=110)],
        NTP,
        0,
    ),
    "the kernel calls itself right long after NTP's last word": (
        [
            reading(NTP, 10, within_ms=110),
            reading(NTP, 8000, within_ms=4100, told_ago_s=7990),
            reading(REFLECTOR, 8010, off_ms=-300),
        ],
        REFLECTOR,
        -300,
    ),
    "before the floor": (
        [
            reading(NTP, 10),
            reading(NTP, 20, off_ms=-20_000_000_000, within_ms=110),
        ],
        NTP,
        0,
    ),
    "a modem is better than nothing": (
        [reading(MODEM, 10, off_ms=-30_000, within_ms=60_000)],
        MODEM,
        -30_000,
    ),
    "the shortest round trip is kept": (
        [
            reading(REFLECTOR, 10, off_ms=9, within_ms=40),
            reading(REFLECTOR, 11, off_ms=1, within_ms=3),
            reading(REFLECTOR, 12, off_ms=-20, within_ms=60),
        ],
        REFLECTOR,
        1,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_who_is_held(case):
    readings, source, wanted_ms = case
    keeping = heard(*readings)
    assert (keeping.held.source, off_ms(keeping)) == (source, wanted_ms)


def test_age_is_since_anybody_agreed_and_uncertainty_since_it_was_measured():
    keeping = heard(
        reading(REFLECTOR, 100, within_ms=20), reading(HTTP, 700, within_ms=600)
    )
    held = keeping.held
    assert held.age_s(760 * S) == 60
    assert held.uncertainty_at_ns(760 * S) == 20 * MS + round(660 * S * DRIFT_RATIO)


def test_an_old_word_of_ntp_is_that_old():
    state = NtpState(maxerror_us=500_000, esterror_us=100, offset_ns=-40 * MS)
    assert state.is_synchronised
    of = timekeeping.of_ntp(Stamp(EPOCH + 5000 * S, 5000 * S), state)
    # 500 ppm: half a second of it is 1000 s.
    assert of.told_ns == 4000 * S
    assert of.uncertainty_ns == (500 + 40 + 100) * MS
    assert timekeeping.of_ntp(Stamp(0, 0), UNSYNC) is None


def test_a_reflector_that_does_not_know_the_time_is_no_source():
    lost = clock_sample.sample(
        0, 40 * MS, receive_ns=EPOCH, hold_ns=0, error_s=0.001, synchronised=False
    )
    assert timekeeping.of_sample(lost) is None


@given(
    fraction_ns=st.integers(0, S - 1),
    up_ns=st.integers(0, 30 * S),
    down_ns=st.integers(0, 30 * S),
    sent_ns=st.integers(0, 10**16),
)
def test_a_date_s_interval_holds_the_truth(fraction_ns, up_ns, down_ns, sent_ns):
    """The server writes the date anywhere between request and answer, and cuts it off."""
    written_ns = sent_ns + up_ns
    utc_ns = (EPOCH + written_ns) // S * S + fraction_ns
    epoch_ns = utc_ns - written_ns
    of = timekeeping.of_http_date(
        utc_ns // S, sent_ns=sent_ns, received_ns=written_ns + down_ns
    )
    assert abs(of.epoch_ns - epoch_ns) <= of.uncertainty_ns + 1
    assert of.uncertainty_ns == (S + up_ns + down_ns + 1) // 2


# ---- the wall clock


def looked(keeping, at_s, wall_off_s, ntp=UNSYNC):
    boot_ns = round(at_s * S)
    stamp = Stamp(EPOCH + boot_ns + round(wall_off_s * S), boot_ns)
    return timekeeping.see_wall(keeping, stamp, ntp, floor_s=FLOOR_S)


@pytest.mark.parametrize("step_s", [3600, -3600, -1_795_000_000, 0.06, -0.06, 10**9])
def test_a_step_that_nobody_confirms_moves_nothing(step_s):
    keeping = heard(reading(REFLECTOR, 10))
    keeping, _ = looked(keeping, 20, 0)
    after, step_ns = looked(keeping, 22, step_s)
    assert step_ns == step_s * S
    assert after.held == keeping.held
    why = timekeeping.changed(keeping, after, step_ns=step_ns)
    assert why.code == "clock.stepped"
    _, again_ns = looked(after, 24, step_s)
    assert again_ns == 0


def test_noise_is_no_step_and_many_small_ones_are():
    keeping, _ = looked(Timekeeping(), 1, 0)
    steps = []
    for n in range(1, 5):
        keeping, step_ns = looked(keeping, 1 + n, n * 0.02)
        steps.append(step_ns)
    assert steps == [0, 0, 60 * MS, 0]


def test_from_1970_by_ntp():
    keeping, _ = looked(Timekeeping(), 5, -1_795_000_000)
    assert keeping.held is None
    after, step_ns = looked(keeping, 60, 0.01, SYNC)
    assert step_ns == 1_795_000_000 * S + 10 * MS
    why = timekeeping.changed(keeping, after, step_ns=step_ns)
    assert (why.code, after.held.source) == ("clock.first", NTP)
    # A synchronised kernel that says 1970 cannot be right.
    lied, _ = looked(Timekeeping(), 5, -1_795_000_000, SYNC)
    assert lied.held is None


def test_a_step_while_nobody_knows_the_time_is_told():
    keeping, _ = looked(Timekeeping(), 5, 0)
    after, step_ns = looked(keeping, 6, 3600)
    assert after.held is None
    assert timekeeping.changed(keeping, after, step_ns=step_ns).code == (
        "clock.stepped.unknown"
    )


CHANGES = {
    "first": ((), reading(HTTP, 10), "clock.first"),
    "another source": (
        (reading(HTTP, 10, within_ms=600),),
        reading(NTP, 20),
        "clock.source",
    ),
    "confirmed": ((reading(NTP, 10),), reading(NTP, 20, off_ms=3), None),
    "corrected": (
        (reading(HTTP, 10, off_ms=90_000, within_ms=600),),
        reading(REFLECTOR, 20),
        "clock.corrected",
    ),
    "not heard": ((reading(NTP, 10),), reading(HTTP, 20, off_ms=90_000), None),
}


@pytest.mark.parametrize("case", CHANGES.values(), ids=CHANGES)
def test_what_is_told(case):
    before, then, code = case
    keeping = heard(*before)
    why = timekeeping.changed(keeping, heard(then, keeping=keeping))
    assert (why and why.code) == code


# ---- invariants

TRUST = [MODEM, HTTP, REFLECTOR, NTP]


@st.composite
def honest(draw):
    """A boot's readings and looks in turn; every source tells the truth within its
    uncertainty, the crystal drifts, and the wall clock jumps as it likes."""
    drift = draw(st.floats(-DRIFT_RATIO, DRIFT_RATIO))
    at_ns, events = 0, []
    for _ in range(draw(st.integers(1, 25))):
        at_ns += draw(st.integers(1, HOUR // 2))
        truth_ns = EPOCH + round(at_ns * drift)
        if draw(st.booleans()):
            jump_s = draw(st.sampled_from([0, 3600, -3600, -1_795_000_000, 10**9]))
            events.append(("look", at_ns, truth_ns, jump_s * S))
            continue
        within_ns = draw(st.integers(1, 2 * S))
        wrong_ns = draw(st.integers(-within_ns, within_ns))
        source = draw(st.sampled_from(TRUST))
        one = Reading(source, at_ns, truth_ns + wrong_ns, within_ns, at_ns)
        events.append(("hear", at_ns, truth_ns, one))
    return events


@given(honest())
def test_utc_is_never_further_off_than_its_uncertainty(events):
    """Whatever the wall clock does, while the sources are honest."""
    keeping = Timekeeping()
    for kind, at_ns, truth_ns, what in events:
        before = keeping.held
        if kind == "look":
            stamp = Stamp(truth_ns + at_ns + what, at_ns)
            keeping, _ = timekeeping.see_wall(keeping, stamp, UNSYNC, floor_s=FLOOR_S)
            assert keeping.held == before
        else:
            keeping = timekeeping.hear(keeping, what, floor_s=FLOOR_S)
        held = keeping.held
        if held is None:
            continue
        # 2 ns: rounding
        assert abs(held.epoch_ns - truth_ns) <= held.uncertainty_at_ns(at_ns) + 2
        if before is not None:
            moved_ns = abs(held.epoch_ns - before.epoch_ns)
            room_ns = before.uncertainty_at_ns(at_ns) + held.uncertainty_at_ns(at_ns)
            assert moved_ns <= room_ns + 2
            assert held.uncertainty_at_ns(at_ns) <= before.uncertainty_at_ns(at_ns)
        assert held.confirmed_ns <= at_ns


@given(honest(), st.integers(-(10**9), 10**9))
def test_the_walls_steps_change_nothing_that_is_held(events, shift_s):
    """The same boot with another wall clock holds the same UTC."""

    def run(shift_ns):
        keeping = Timekeeping()
        for kind, at_ns, truth_ns, what in events:
            if kind == "look":
                stamp = Stamp(truth_ns + at_ns + what + shift_ns, at_ns)
                keeping, _ = timekeeping.see_wall(
                    keeping, stamp, UNSYNC, floor_s=FLOOR_S
                )
            else:
                keeping = timekeeping.hear(keeping, what, floor_s=FLOOR_S)
        return keeping.held

    assert run(0) == run(shift_s * S)


@given(
    st.permutations(TRUST),
    st.lists(st.integers(-(10**6), 10**6), min_size=4, max_size=4),
)
def test_the_most_trusted_of_contradicting_sources_wins_in_any_order(order, offs):
    # Far enough apart that no two agree.
    wrong_ms = {
        source: n * 10_000 + off % 5000
        for n, (source, off) in enumerate(zip(TRUST, offs, strict=True))
    }
    keeping = heard(
        *(
            reading(source, 10 + n, off_ms=wrong_ms[source], within_ms=100)
            for n, source in enumerate(order)
        )
    )
    assert (keeping.held.source, off_ms(keeping)) == (NTP, wrong_ms[NTP])


# ---- certificates


def stamp(wall_s, boot_s=1000):
    return Stamp(wall_s * S, boot_s * S)


NOW_S = EPOCH // S + 1000
CERTIFICATES = {
    "woke in 1970": (Timekeeping(), 60, CertificateTime(FLOOR_S, is_exact=False)),
    "nobody confirmed a likely clock": (
        Timekeeping(),
        NOW_S,
        CertificateTime(NOW_S, is_exact=False),
    ),
    "1970, and the time is known": (
        heard(reading(REFLECTOR, 900)),
        60,
        CertificateTime(NOW_S, is_exact=True),
    ),
    "an hour off, and the time is known": (
        heard(reading(REFLECTOR, 900)),
        NOW_S + 3600,
        CertificateTime(NOW_S, is_exact=True),
    ),
    "the clock is right": (heard(reading(REFLECTOR, 900)), NOW_S + 5, None),
}


@pytest.mark.parametrize("case", CERTIFICATES.values(), ids=CERTIFICATES)
def test_what_certificates_are_judged_by(case):
    keeping, wall_s, wanted = case
    assert (
        timekeeping.certificate_time(keeping, stamp(wall_s), floor_s=FLOOR_S) == wanted
    )


@given(st.integers(-(2**31), 2**32), st.integers(0, 10**6))
def test_certificates_are_never_judged_by_a_time_before_the_floor(wall_s, boot_s):
    when = timekeeping.certificate_time(
        Timekeeping(), stamp(wall_s, boot_s), floor_s=FLOOR_S
    )
    assert when.utc_s >= FLOOR_S
