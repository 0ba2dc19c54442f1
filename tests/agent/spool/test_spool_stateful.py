"""The spool against a plain model, through any course of kills, cuts and marks."""

import itertools
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from jaga_agent.wire.evidence import BOOTS, BootMark, LostRange, Watermark
from support.spools import STORE, SpoolHome, all_kept
from support.waiting import until

LEAVES = st.sampled_from(["heartbeat", "heartbeat", "histogram", "event", "digest"])


class Model(RuleBasedStateMachine):
    """What was appended, what may be gone, and what the collector said."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="jaga-spool-"))
        self.home = SpoolHome(self.folder)
        self.appended = {}
        """(boot, seq) → record: all that ever was."""
        self.alive = {}
        """Of them: what must be kept."""
        self.may_be_gone = False
        """It was full: what is gone is not foretold, only that it is told."""
        self.highest = {}
        """By boot: what was given."""
        self.last_token = 0
        self.marks = {}
        self.store, self.revision = STORE, 0
        self.connections = 0

    def teardown(self):
        self.home.close()
        shutil.rmtree(self.folder)

    @initialize()
    def begin(self):
        self.open()

    def open(self):
        self.spool = self.home.open(max_bytes=600_000)
        self.boot = self.spool.boot

    # ---- what happens

    @rule(leaves=st.lists(LEAVES, min_size=1, max_size=12))
    def append(self, leaves):
        for leaf in leaves:
            self.put(leaf, b"%d of it" % self.highest.get(self.boot, 0))

    @rule(leaf=LEAVES)
    def fill_it(self, leaf):
        """More than it holds."""
        for _ in range(2):
            for _ in range(400):
                self.put(leaf, bytes(400))
            assert self.spool.flush(20)
        self.may_be_gone = True

    def put(self, leaf, payload):
        seq = self.highest.get(self.boot, 0) + 1
        assert self.spool.next_seq() == seq
        record = self.spool.append(seq, leaf, payload)
        assert record.token > self.last_token
        self.last_token, self.highest[self.boot] = record.token, seq
        self.appended[self.boot, seq] = self.alive[self.boot, seq] = record

    @rule()
    def flush(self):
        assert self.spool.flush(20)

    @rule()
    def connect(self):
        self.connections += 1
        assert self.spool.next_connection() == self.connections

    @rule(data=st.data())
    def cover(self, data):
        """The collector goes on, or back."""
        # Of those too that the spool has forgotten: how many it knows is its own affair.
        boots = list(self.highest) or [self.boot]
        marks = []
        for boot in data.draw(st.lists(st.sampled_from(boots), unique=True)):
            highest = self.highest.get(boot, 0)
            through = data.draw(st.integers(0, highest))
            top = data.draw(st.integers(through, highest))
            gaps = ()
            if top > through + 1:
                first = through + 1
                gaps = ((first, data.draw(st.integers(first, top - 1))),)
            marks.append(BootMark(boot, through, top if gaps else through, gaps))
        self.take(Watermark(self.store, self.revision + 1, tuple(marks)))

    @rule(is_other=st.booleans())
    def forget(self, is_other):
        """Another store, or an older state of it, that has nothing of us."""
        if is_other:
            store = b"store--2" if self.store == STORE else STORE
            self.take(Watermark(store, self.revision, ()))
        elif self.revision > 0:
            self.take(Watermark(self.store, self.revision - 1, ()))
        self.settle()

    def settle(self):
        """Wait for what is saved at once though no record waits: a mark gone back."""
        memory = self.spool._memory
        until(lambda: not memory.marks_urgent and not self.spool._gate._turn.locked())

    def take(self, mark):
        # Most of these marks have places to spare: of other boots there is nothing.
        back = mark.store != self.store or mark.revision < self.revision
        if back or len(mark.boots) < BOOTS:
            self.marks = {}
        self.store, self.revision = mark.store, mark.revision
        self.marks.update({one.boot: one for one in mark.boots})
        self.spool.cover(mark)

    @rule()
    def reopen(self):
        self.home.opened.pop().close()
        self.open()
        assert self.spool.boot == self.boot

    @rule()
    def kill(self):
        boot = self.boot
        self.home.kill()
        self.open()
        assert self.boot == boot
        self.tell_again()

    @rule()
    def lose_power(self):
        boot, durable = self.boot, self.spool
        self.home.kill()
        # What was in RAM alone is gone; an earlier boot's is on the card or gone too.
        on_card = durable.durable_up_to
        self.home.lose_power()
        self.open()
        assert self.boot not in self.highest
        kept = all_kept(self.spool)
        for key, record in list(self.alive.items()):
            if key not in kept:
                assert record.token > on_card or self.may_be_gone
                assert key[0] == boot or self.may_be_gone
                del self.alive[key]
        self.connections = 0
        self.tell_again()

    def tell_again(self):
        """The retained watermark comes with the next connection."""
        self.revision += 1
        self.spool.cover(
            Watermark(self.store, self.revision, tuple(self.marks.values()))
        )

    # ---- what always holds

    def is_covered(self, boot, seq):
        one = self.marks.get(boot)
        return (
            one is not None
            and seq <= max(one.through, one.highest)
            and not any(first <= seq <= last for first, last in one.gaps)
        )

    @invariant()
    def all_is_as_it_must_be(self):
        if self.may_be_gone:
            # Each commit may let go of some: not between what is looked at here.
            assert self.spool.flush(20)
            self.settle()
        kept = all_kept(self.spool)
        assert all(self.appended[key] == record for key, record in kept.items())
        if self.may_be_gone:
            self.alive = kept
        assert kept == self.alive
        want = sorted(
            (r for key, r in kept.items() if not self.is_covered(*key)),
            key=lambda r: r.token,
        )
        assert self.spool.depth() == len(want)
        # Asked again while the card is busy.
        seen = []

        def is_pending():
            seen[:] = self.spool.pending(10_000)
            return seen == want

        try:
            until(is_pending)
        except AssertionError:
            tokens, wanted = {r.token for r in seen}, {r.token for r in want}
            msg = f"not pending: {wanted - tokens}; pending: {tokens - wanted}"
            raise AssertionError(msg) from None
        digests = [r for r in kept.values() if r.leaf == "digest"]
        head = max(digests, key=lambda r: r.token, default=None)
        assert self.spool.last_digest() == head

    @invariant()
    def what_is_gone_is_told(self):
        kept, want = self.alive, []
        for boot, highest in self.spool.boots():
            one = self.marks.get(boot)
            reach = highest
            if boot != self.boot and one is not None:
                reach = max(highest, one.highest)
            gone = [
                seq
                for seq in range(1, reach + 1)
                if (boot, seq) not in kept and not self.is_covered(boot, seq)
            ]
            for _, run in itertools.groupby(enumerate(gone), lambda p: p[1] - p[0]):
                seqs = [seq for _, seq in run]
                want.append(LostRange(boot, seqs[0], seqs[-1]))
        assert list(self.spool.lost()) == want[:64]


Model.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None
)


@pytest.mark.slow
class TestSpool(Model.TestCase):
    pass


@pytest.mark.torture
@pytest.mark.timeout(3600)
class TestSpoolForLong(Model.TestCase):
    settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
