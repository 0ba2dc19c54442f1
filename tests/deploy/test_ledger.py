"""The decisions over the ledger, by themselves."""

import string

from hypothesis import given
from hypothesis import strategies as st

from jaga_deploy.core import ledger as book
from jaga_deploy.core import subjects
from jaga_deploy.core.ledger import DAY_S, Certificate, Ledger
from jaga_deploy.errors import RefusedError

NOW_S = 1_800_000_000
NAMES = ("tps-a", "tps-b")


def attempt(act, *args):
    try:
        return act(*args)
    except RefusedError:
        return None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("issue", "renew", "revoke")), st.sampled_from(NAMES)
        ),
        max_size=12,
    )
)
def test_whatever_is_done_a_holder_is_in_or_shut_out(steps):
    """Never two first certificates at once, never a revoked one back, numbers unique."""
    ledger = Ledger()
    for number, (verb, name) in enumerate(steps):
        subject = subjects.site(name)
        before = {each.serial for each in ledger.revoked()}
        if verb == "revoke":
            done = attempt(book.revoke, ledger, subject, None, NOW_S)
            ledger = done[0] if done else ledger
            assert (done is None) == (not ledger.held(subject))
        else:
            if verb == "issue":
                free = ledger.current(subject) is None
                refused = False
                try:
                    book.may_issue(ledger, subject, NOW_S)
                except RefusedError:
                    refused = True
                assert refused != free
                if refused:
                    continue
            elif attempt(book.may_renew, ledger, subject) is None:
                continue
            ledger = book.issue(
                ledger,
                Certificate(
                    serial=f"{number:040x}",
                    kind=subject.kind,
                    name=subject.name,
                    label=subject.label,
                    issued_s=NOW_S,
                    not_before_s=NOW_S,
                    not_after_s=NOW_S + DAY_S,
                    key_sha256=f"{number}",
                ),
            )
        assert before <= {each.serial for each in ledger.revoked()}
        for each in NAMES:
            held = ledger.held(subjects.site(each))
            valid = [one for one in held if one.state(NOW_S) == "valid"]
            assert (each in ledger.shut_out(NOW_S)) == (bool(held) and not valid)


@given(
    days=st.integers(1, 4000),
    age_s=st.integers(0, 4000 * DAY_S),
    kind=st.sampled_from(tuple(subjects.Kind)),
)
def test_no_certificate_reaches_beyond_its_ca(days, age_s, kind):
    authority = (NOW_S - age_s, NOW_S - age_s + 3650 * DAY_S)
    span = attempt(book.validity, kind, days, authority, NOW_S)
    if span is None:
        assert NOW_S + days * DAY_S > authority[1]
        return
    assert authority[0] <= span[0] <= NOW_S < span[1] <= authority[1]
    assert span[1] == NOW_S + days * DAY_S
    assert NOW_S - span[0] <= DAY_S or kind is subjects.Kind.BROKER


@given(st.text(string.printable, max_size=80))
def test_no_name_of_a_site_is_another_account_or_breaks_the_rights(name):
    subject = attempt(subjects.site, name)
    if subject is not None:
        assert not set(subject.name) & set("/+#%\n\r \t")
        assert subject.name.split("-")[0] not in ("collector", "operator", "broker")
