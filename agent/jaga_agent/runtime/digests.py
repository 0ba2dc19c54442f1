"""The site's word for its records: each five minutes a signed digest, in a chain.

It reads back from the spool what no digest covers yet, and keeps the digest there as a
record like any other. Nothing waits for it: while the key cannot sign, records go on and
the next digest covers more.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec

from jaga_agent.core import digesting
from jaga_agent.core.digesting import Head
from jaga_agent.errors import SigningError, SpoolError
from jaga_agent.wire import evidence
from jaga_agent.wire.base import MalformedMessage, decode, encode
from jaga_agent.wire.evidence import CODE_OF, NO_HASH, Digest, RecordCode

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from jaga_agent.config import Config
    from jaga_agent.core.digesting import Covering, Span
    from jaga_agent.ports import SpooledRecord
    from jaga_agent.runtime.doors import Doors
    from jaga_agent.runtime.troubles import Troubles

_log = logging.getLogger(__name__)

RETRY_S: Final = 30.0
"""After a failure; the records wait."""
LAST_S: Final = 3.0
"""For the digest of a clean stop: systemd waits 10 s for all of it."""
READ: Final = 200
"""Records read back in one go, so that the event loop never waits long for the card."""
RACES: Final = 5
"""How often another record may take the digest's number while the key signs."""
PART: Final = "digest"


class Digests:
    """Makes the digests; used on the event loop only."""

    def __init__(
        self,
        config: Config,
        *,
        doors: Doors,
        troubles: Troubles,
        recorded: Callable[[SpooledRecord], None],
    ) -> None:
        """Tell `recorded` of each digest, once it is kept."""
        self._region = config.site.region
        self._site = config.site.id
        self._spool = doors.spool
        self._clock = doors.clock
        self._signer = doors.signer
        self._troubles = troubles
        self._recorded = recorded
        self._told: bytes | None = None
        """The certificate that this run's digests have named."""

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """Return what must run as long as the agent does; reads the spool as it is now."""
        if self._signer is None:
            _log.warning(
                "no key in [mqtt]: digests are not signed and prove nothing of who sent"
            )
        try:
            before = list(self._spool.boots())
        except SpoolError as error:
            self._troubles.tell(PART, str(error))
            before = []
        return [self._keep(before)]

    async def close(self) -> None:
        """Cover what is left, within a few seconds or not at all."""
        try:
            async with asyncio.timeout(LAST_S):
                await self._catch_up()
        except (SigningError, SpoolError, TimeoutError) as error:
            reason = str(error) or f"the key did not sign within {LAST_S:g} s"
            _log.warning("digest: %s; the next start makes the last one", reason)

    async def _keep(self, before: Sequence[tuple[bytes, int]]) -> None:
        """Cover what earlier runs left, then go on with this one."""
        boots: Sequence[tuple[bytes, int]] | None = before
        while True:
            is_done = await self._try(boots)
            boots = None if is_done else boots
            due_s = digesting.next_due_s(self._clock.now())
            await asyncio.sleep(due_s if is_done else RETRY_S)

    async def _try(self, boots: Sequence[tuple[bytes, int]] | None) -> bool:
        try:
            await self._catch_up(boots)
        except (SigningError, SpoolError) as error:
            self._troubles.tell(PART, f"{error}; the records wait for their digest")
            return False
        self._troubles.over(PART)
        return True

    async def _catch_up(self, boots: Sequence[tuple[bytes, int]] | None = None) -> None:
        """Make every digest that is due; of these boots and up to there, if said."""
        # Each digest moves the head: ask again after each.
        while True:
            head = self._head()
            known = self._spool.boots() if boots is None else boots
            for span in digesting.spans(head, known):
                if await self._make(
                    span, ended=boots is not None or span.of != self._spool.boot
                ):
                    break
            else:
                return

    def _head(self) -> Head | None:
        newest = self._spool.last_digest()
        if newest is None:
            return None
        try:
            digest = decode(newest.payload, Digest)
        except MalformedMessage as error:
            msg = f"the spool's newest digest is damaged: {error}"
            raise SpoolError(msg) from error
        return Head(digest.of, digest.last)

    async def _make(self, span: Span, *, ended: bool) -> bool:
        """Make the digest of a span unless it needs none; return whether it did."""
        records = await self._read(span)
        if not digesting.is_worth(span, [r.leaf for r in records], ended=ended):
            return False
        covering = digesting.cover(span, [r.seq for r in records])
        root = evidence.root_of(
            evidence.hash_of(CODE_OF[record.leaf], record.payload)
            for record in records
            if record.seq <= covering.span.last
        )
        for _ in range(RACES):
            if await self._append(covering, root):
                return True
        msg = "records come faster than the key signs"
        raise SigningError(msg)

    async def _read(self, span: Span) -> list[SpooledRecord]:
        found: list[SpooledRecord] = []
        for first in range(span.first, span.last + 1, READ):
            last = min(span.last, first + READ - 1)
            found += self._spool.select(span.of, first, last)
            await asyncio.sleep(0)
        return found

    async def _append(self, covering: Covering, root: bytes) -> bool:
        """Sign and keep a digest; False: a record has taken its number meanwhile."""
        spool = self._spool
        certificate = None if self._signer is None else await self._signer.certificate()
        newest = spool.last_digest()
        seq = spool.next_seq()
        span = covering.span
        digest = Digest(
            boot=spool.boot,
            seq=seq,
            at_ms=round(self._clock.now() * 1000),
            wall_ms=self._clock.wall_ms(),
            clock_age_s=self._clock.age_s(),
            of=span.of,
            first=span.first,
            last=span.last,
            missing=covering.missing,
            root=root,
            prev=NO_HASH
            if newest is None
            else evidence.hash_of(RecordCode.DIGEST, newest.payload),
            certificate=None if certificate == self._told else certificate,
        )
        if self._signer is not None:
            data = evidence.digest_to_sign(self._region, self._site, digest)
            signature = await self._signer.sign(data)
            digest = msgspec.structs.replace(digest, signature=signature)
        payload = encode(digest)
        _check(payload)
        if spool.next_seq() != seq:
            return False
        kept = spool.append(seq, "digest", payload)
        self._told = certificate
        self._recorded(kept)
        return True


def _check(payload: bytes) -> None:
    """Raise SigningError for what no collector would take: an RSA key's signature."""
    try:
        decode(payload, Digest)
    except MalformedMessage as error:
        msg = (
            f"the key or certificate in [mqtt] will not do for digests ({error}); want"
            " ECDSA P-256, as jaga-deploy site issue makes it"
        )
        raise SigningError(msg) from error
