"""Opening the spool: what the card has, what the tail has, and the name of this boot.

A boot's name is BLAKE2b over the kernel's boot id, the spool's id and its incarnation.
The incarnation rises with each boot, and whenever the tail cannot vouch for the numbers
that were given in this one: (boot, seq) is never used twice.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import sqlite3
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from jaga_agent.adapters.spool import tail
from jaga_agent.adapters.spool.coverage import Boot, Coverage
from jaga_agent.adapters.spool.database import (
    BOOT_GAP,
    Database,
    Row,
    State,
    boots_left,
    is_card,
    is_corrupt,
    is_whole,
    set_aside,
)
from jaga_agent.adapters.spool.memory import record
from jaga_agent.errors import SpoolError
from jaga_agent.wire.base import BOOT_BYTES
from jaga_agent.wire.evidence import RecordCode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jaga_agent.ports import SpooledRecord

_log = logging.getLogger(__name__)

_BLIND_BASE: Final = 1 << 48
"""Where tokens begin while the card cannot be read: above all that it can hold."""
_SALVAGE_ROWS: Final = 200
_SALVAGE_ERRORS: Final = 1000
"""Gives up a file that is damaged at as many places."""


@dataclass(slots=True)
class Loaded:
    """A database, and what it says."""

    database: Database
    state: State
    boots: list[Boot]
    kept: list[tuple[int, int]] = field(default_factory=list)
    """Ranges of tokens."""
    head: SpooledRecord | None = None
    hours: list[int] = field(default_factory=list)

    @property
    def last_token(self) -> int:
        """The highest token that may have been given."""
        return max(
            self.state.last_token,
            *(last for _, last in self.kept[-1:]),
            *(
                b.base + max(b.highest, min(b.mark.highest, 1 << 40) if b.mark else 0)
                for b in self.boots
            ),
            0,
        )


def name_of(kernel: str, spool_id: bytes, incarnation: int) -> bytes:
    """Return the 8 bytes that name a boot."""
    said = kernel.encode() + spool_id + incarnation.to_bytes(8, "little")
    return hashlib.blake2b(said, digest_size=BOOT_BYTES).digest()


def load(path: Path) -> Loaded:
    """Open the file and read what it says: a walk over all of it.

    A damaged file is set aside, and what can be saved of it is taken into a new one.
    Raises sqlite3.Error, OSError, SpoolError.
    """
    try:
        return _load(path)
    except sqlite3.Error as error:
        if not is_corrupt(error):
            raise
        return replace_damaged(path, error)


def replace_damaged(path: Path, error: Exception) -> Loaded:
    """Set the file aside and begin another; raises sqlite3.Error, OSError."""
    aside = set_aside(path)
    database = Database(path)
    try:
        saved = _salvage(aside, database)
        database.close()
    except BaseException:
        database.close()
        raise
    _log.error(
        "the spool %s was damaged (%s); it is kept as %s and a new one begins,"
        " with %d of its records",
        path,
        error,
        aside,
        saved,
    )
    return _load(path)


def _load(path: Path) -> Loaded:
    database = Database(path)
    try:
        if database.unnamed:
            _log.warning(
                "the spool %s: %d records of an earlier version name no boot"
                " and are left out",
                path,
                database.unnamed,
            )
        loaded = Loaded(
            database, database.state(), database.boots(), hours=database.hours()
        )
        first = last = head = None
        for token, leaf in database.tokens():
            if leaf == RecordCode.DIGEST:
                head = token
            if last is not None and first is not None and token == last + 1:
                last = token
                continue
            if first is not None and last is not None:
                loaded.kept.append((first, last))
            first = last = token
        if first is not None and last is not None:
            loaded.kept.append((first, last))
        _reach(loaded)
        if head is not None:
            loaded.head = _head(loaded, head)
    except BaseException:
        database.close()
        raise
    return loaded


def _reach(loaded: Loaded) -> None:
    """Let each boot know its youngest record: that is not written with each one."""
    for boot, after in zip_longest(loaded.boots, loaded.boots[1:]):
        for first, last in reversed(loaded.kept):
            if after is not None and first > after.base:
                continue
            if last > boot.base:
                boot.highest = max(boot.highest, last - boot.base)
            break


def _head(loaded: Loaded, token: int) -> SpooledRecord | None:
    for row in loaded.database.select(token, token, 1):
        below = [boot for boot in loaded.boots if boot.base < token]
        if below:
            boot = below[-1]
            return record(token, boot.name, token - boot.base, row)
    return None


@dataclass(slots=True)
class Opened:
    """Everything to begin with."""

    loaded: Loaded | None
    """None: the card is full or fails; everything is kept in RAM meanwhile."""
    coverage: Coverage
    header: tail.Header
    entries: tuple[tail.Entry, ...]


def open_spool(path: Path, tail_path: Path, kernel: str) -> Opened:
    """Join card and tail; raises SpoolError about what somebody has to mend."""
    found = _found(tail_path)
    loaded = _try_load(path)
    if loaded is None:
        return _opened(None, found, kernel, secrets.token_bytes(16), 0)
    state = loaded.state
    opened = _opened(loaded, found, kernel, state.spool_id, state.incarnation)
    if opened.header.incarnation == state.incarnation and found is not None:
        return opened
    state.incarnation = opened.header.incarnation
    state.last_token = max(loaded.last_token, opened.header.base)
    try:
        loaded.database.begin()
        loaded.database.save_boots(opened.coverage.boots, ())
        loaded.database.save_state(state)
        loaded.database.commit()
    except (sqlite3.Error, OSError) as error:
        loaded.database.close()
        if not is_card(error, path):
            raise _failed(path, error) from error
        _tell_without_card(path, error)
        # The card may not know this incarnation: then no other may take its name.
        return _opened(None, found, kernel, secrets.token_bytes(16), 0)
    return opened


def _try_load(path: Path) -> Loaded | None:
    try:
        return load(path)
    except (sqlite3.Error, OSError) as error:
        if not is_card(error, path):
            raise _failed(path, error) from error
        _tell_without_card(path, error)
        return None


def _tell_without_card(path: Path, error: Exception) -> None:
    _log.error(
        "cannot use the spool %s (%s); records are kept in RAM until the card takes"
        " them: see its free space",
        path,
        error,
    )


def _failed(path: Path, error: Exception) -> SpoolError:
    return SpoolError(
        f"cannot open the spool {path}: {error};"
        " see the free space and the permissions of its directory"
    )


def _found(path: Path) -> tail.Found | None:
    try:
        return tail.read(path)
    except OSError as error:
        msg = (
            f"cannot read the spool's tail {path}: {error.strerror};"
            " see state.run_directory"
        )
        raise SpoolError(msg) from error


def _opened(
    loaded: Loaded | None,
    found: tail.Found | None,
    kernel: str,
    spool_id: bytes,
    incarnation: int,
) -> Opened:
    boots = loaded.boots if loaded else []
    coverage = Coverage(
        boots,
        store=loaded.state.store if loaded else b"",
        revision=loaded.state.revision if loaded else 0,
    )
    for first, last in loaded.kept if loaded else ():
        coverage.keep(first, last)
    entries = found.entries if found else ()
    if found is not None:
        _name_strangers(coverage, found)
    if found is not None and _goes_on(loaded, found, kernel):
        boot = coverage.named(found.header.boot)
        if boot is None:
            boot = Boot(found.header.boot, found.header.base, 0)
            coverage.begin(boot)
        boot.highest = max(boot.highest, found.header.last_seq)
        header = replace(found.header, base=boot.base, last_seq=boot.highest)
        return Opened(loaded, coverage, header, entries)
    name = name_of(kernel, spool_id, incarnation + 1)
    above = _BLIND_BASE if loaded is None else loaded.last_token
    for one in coverage.boots:
        above = max(above, one.base + one.highest)
    coverage.begin(Boot(name, above + BOOT_GAP, 0))
    header = tail.Header(spool_id, incarnation + 1, name, above + BOOT_GAP, 0, 0)
    return Opened(loaded, coverage, header, entries)


def _goes_on(loaded: Loaded | None, found: tail.Found, kernel: str) -> bool:
    """Return whether the tail is of this boot and knows every number given in it."""
    header = found.header
    if loaded is not None:
        newest = loaded.boots[-1].name if loaded.boots else None
        if (
            header.spool_id != loaded.state.spool_id
            or header.incarnation != loaded.state.incarnation
            or header.boot != newest
        ):
            return False
    return found.intact and header.boot == name_of(
        kernel, header.spool_id, header.incarnation
    )


def _name_strangers(coverage: Coverage, found: tail.Found) -> None:
    """Take in what the tail knows of boots, most of them known to the card too."""
    reached = {found.header.boot: (found.header.base, found.header.last_seq)}
    for entry in found.entries:
        _, highest = reached.get(entry.boot, (0, 0))
        reached[entry.boot] = entry.base, max(highest, entry.seq)
    for name, (base, highest) in reached.items():
        boot = coverage.named(name)
        if boot is None:
            # A file that lay here meanwhile may have given these tokens to others.
            above = max((b.base + b.highest for b in coverage.boots), default=0)
            boot = Boot(name, base if base >= above else above + BOOT_GAP, 0)
            coverage.begin(boot)
        boot.highest = max(boot.highest, highest)


def _salvage(aside: Path, database: Database) -> int:
    """Copy what is still as it was written; return how many records.

    The boots first: without them nobody could say whose a record is.
    """
    saved = 0
    damaged = sqlite3.connect(aside, isolation_level=None)
    try:
        for rows in _whole_rows(damaged):
            database.begin()
            if not saved:
                database.save_boots(boots_left(damaged), ())
            database.insert(rows)
            database.commit()
            saved += len(rows)
    except sqlite3.Error as error:
        database.roll_back()
        if is_card(error, aside):
            raise
        # So damaged that nothing more can be had.
        _log.debug("salvage of %s ended: %s", aside, error)
    finally:
        damaged.close()
    return saved


def _whole_rows(damaged: sqlite3.Connection) -> Iterator[list[Row]]:
    """Yield the records that are whole, passing over the places that are not.

    Where many cannot be read at once, one by one; where one cannot, ever longer steps.
    """
    after, stride, errors, singly = 0, 1, 0, 0
    while errors < _SALVAGE_ERRORS:
        try:
            rows = damaged.execute(
                "SELECT token, leaf, payload, crc FROM records WHERE token > ?"
                " ORDER BY token LIMIT ?",
                (after, 1 if singly else _SALVAGE_ROWS),
            ).fetchall()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            if singly:
                errors += 1
                after += stride
                stride = min(stride * 2, BOOT_GAP)
            singly = _SALVAGE_ROWS
            continue
        if not rows:
            return
        singly, stride = max(singly - 1, 0), 1
        after = rows[-1][0]
        yield [row[:3] for row in rows if is_whole(*row)]
