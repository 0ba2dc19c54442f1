"""Puts what a proof is made from into files, so that others can check it without Jaga.

docs/evidence.md has the commands. It judges nothing: what is here is what is stored.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

import msgspec

from jaga_agent.wire.base import MalformedMessage, decode
from jaga_agent.wire.evidence import LEAF_OF, Digest, RecordCode, hash_of
from jaga_server.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jaga_server.store.evidence import Evidence


def export(
    evidence: Evidence,
    spans: Mapping[bytes, Sequence[tuple[int, int]]],
    folder: Path,
) -> None:
    """Write the records of these spans; raises ExportError.

    `records/BOOT-SEQ.KIND` is a payload as it came. Of each digest among them there are
    also `digests/BOOT-SEQ.json` (what it says, hashes in hexadecimal), `.signature`
    (DER), `.covers` (the files of the records it covers, in order) and, where it names
    one, `.crt` (the certificate, PEM).
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "records").mkdir()
        (folder / "digests").mkdir()
        for boot, each in spans.items():
            for first, last in each:
                for seq, kind, payload, t_ms in evidence.payloads(boot, first, last):
                    path = folder / "records" / _name(boot, seq, kind)
                    path.write_bytes(payload)
                    if kind is RecordCode.DIGEST:
                        stem = folder / "digests" / _stem(boot, seq)
                        _digest(evidence, stem, payload, t_ms)
    except FileExistsError as error:
        message = f"{folder} has an export in it already; name an empty folder"
        raise ExportError(message) from error
    except OSError as error:
        message = f"{error.filename or folder}: {error.strerror}; name another folder"
        raise ExportError(message) from error


def _digest(evidence: Evidence, stem: Path, payload: bytes, t_ms: int) -> None:
    """Write one digest's parts; of what is none its payload is all there is."""
    with contextlib.suppress(MalformedMessage):
        digest = decode(payload, Digest)
        said = {
            "boot": digest.boot.hex(),
            "seq": digest.seq,
            "t_ms": t_ms,
            "wall_ms": digest.wall_ms,
            "clock_age_s": digest.clock_age_s,
            "of": digest.of.hex(),
            "first": digest.first,
            "last": digest.last,
            "missing": digest.missing,
            "root": digest.root.hex(),
            "prev": digest.prev.hex(),
            "hash": hash_of(RecordCode.DIGEST, payload).hex(),
        }
        stem.with_suffix(".json").write_bytes(
            msgspec.json.format(msgspec.json.encode(said)) + b"\n"
        )
        stem.with_suffix(".signature").write_bytes(digest.signature)
        names = [
            _name(digest.of, seq, kind)
            for seq, kind, *_ in evidence.payloads(digest.of, digest.first, digest.last)
            if not any(first <= seq <= last for first, last in digest.missing)
        ]
        lines = "".join(f"{name}\n" for name in names)
        stem.with_suffix(".covers").write_text(lines, "ascii")
        if digest.certificate:
            pem = ssl.DER_cert_to_PEM_cert(digest.certificate)
            stem.with_suffix(".crt").write_text(pem, "ascii")


def _name(boot: bytes, seq: int, kind: RecordCode) -> str:
    return f"{_stem(boot, seq)}.{LEAF_OF[kind]}"


def _stem(boot: bytes, seq: int) -> str:
    return f"{boot.hex()}-{seq:08d}"
