"""Which configuration is in force, whatever ends the agent, and when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_agent.core import applied
from jaga_agent.core.applied import Applied, Ended, Source, Trial

CARD, OTHER = "card-hash", "other-card-hash"
OLD, NEW = "old = 1", "new = 1"
ON_CARD = Applied(CARD)
HAD_OLD = Applied(CARD, OLD)


def trying(kept=None):
    return applied.started(applied.proposed(kept, CARD, Trial("0a", NEW)), CARD)


# name: (what is kept, the card's file) → what is in force
CASES = {
    "nothing was ever applied": (None, CARD, (Source.FILE, None)),
    "applied": (HAD_OLD, CARD, (Source.APPLIED, OLD)),
    "applied over another file": (HAD_OLD, OTHER, (Source.FILE, None)),
    "proposed, not begun": (
        applied.proposed(HAD_OLD, CARD, Trial("0a", NEW)),
        CARD,
        (Source.APPLIED, OLD),
    ),
    "on trial": (trying(), CARD, (Source.TRIAL, NEW)),
    "on trial over an applied one": (trying(HAD_OLD), CARD, (Source.TRIAL, NEW)),
    "on trial, over another file": (trying(), OTHER, (Source.FILE, None)),
    "confirmed": (applied.confirmed(trying(), "ok"), CARD, (Source.APPLIED, NEW)),
    "rolled back": (applied.rolled_back(trying(), "why"), CARD, (Source.FILE, None)),
    "rolled back to an applied one": (
        applied.rolled_back(trying(HAD_OLD), "why"),
        CARD,
        (Source.APPLIED, OLD),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_in_force(case):
    kept, base, wanted = case
    assert applied.in_force(kept, base) == wanted


def test_a_start_within_a_trial_is_without_it_and_tells_so():
    again = applied.started(trying(HAD_OLD), CARD)
    assert applied.in_force(again, CARD) == (Source.APPLIED, OLD)
    assert again.ended == Ended(
        "0a",
        False,
        "rolled back: the agent ended before the collector was reached",
    )
    assert applied.started(again, CARD) == again
    assert applied.told(again).ended is None


def test_a_changed_file_ends_a_trial_and_tells_so():
    for kept in (trying(HAD_OLD), applied.proposed(HAD_OLD, CARD, Trial("0a", NEW))):
        again = applied.started(kept, OTHER)
        assert again == Applied(
            OTHER, ended=Ended("0a", False, "the card's own file was changed")
        )


def test_what_is_proposed_over_another_file_forgets_what_was_applied_there():
    kept = applied.proposed(HAD_OLD, OTHER, Trial("0b", NEW))
    assert applied.rolled_back(applied.started(kept, OTHER), "x").toml is None


STEPS = st.lists(
    st.sampled_from(["propose", "start", "confirm", "give up", "tell", "new card"]),
    max_size=12,
)


@given(STEPS)
def test_never_is_in_force_what_was_neither_proved_nor_is_on_its_first_trial(steps):  # noqa: C901 - one case for each step
    kept, base, proved, starts = None, CARD, set(), 0
    for number, step in enumerate(steps):
        match step:
            case "propose":
                kept = applied.proposed(
                    kept, base, Trial(f"{number:02}", f"n = {number}")
                )
                starts = 0
            case "start":
                kept = applied.started(kept, base)
                starts += 1
            case "confirm":
                if kept is not None and kept.trial is not None and kept.trial.begun:
                    proved.add((base, kept.trial.toml))
                    kept = applied.confirmed(kept, "")
            case "give up":
                kept = None if kept is None else applied.rolled_back(kept, "")
            case "tell":
                kept = None if kept is None else applied.told(kept)
            case "new card":
                base += "'"
        source, text = applied.in_force(kept, base)
        if source is Source.TRIAL:
            assert starts == 1
        elif source is Source.APPLIED:
            assert (base, text) in proved
