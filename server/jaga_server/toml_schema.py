"""Reads a TOML table strictly: every fault names its key, its line and the fix.

Knows nothing of what the keys mean; `config` says that.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass
from typing import Any

from jaga_server.errors import ConfigError

_HEADER = re.compile(r"\s*\[\s*([A-Za-z0-9_-]+)\s*\]")
_KEY = re.compile(r"""\s*["']?([A-Za-z0-9_-]+)["']?\s*(?:=|\.)""")


@dataclass(frozen=True, slots=True)
class Key:
    """What one key must look like."""

    kind: type
    fix: str
    """What to write, as the end of a sentence: 'a port from 1 to 65535'."""
    default: Any = None
    required: bool = False
    least: float | None = None
    most: float | None = None
    pattern: str | None = None


Schema = dict[str, dict[str, Key]]


def read(text: str, file: str, schema: Schema) -> dict[str, dict[str, Any]]:
    """Return section → key → value, defaults filled in.

    Raises ConfigError with every fault, one a line: "collector.toml:7: …".
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = f"{file}: not TOML: {error}"
        raise ConfigError(message) from error
    checking = _Checking(_locate(text))
    for section in document:
        if section not in schema:
            checking.fault(
                section, None, f"unknown section [{section}]{_nearest(section, schema)}"
            )
    values = {
        section: checking.section(section, keys, document.get(section, {}))
        for section, keys in schema.items()
    }
    if checking.faults:
        checking.faults.sort()
        raise ConfigError(
            "\n".join(
                f"{file}:{line}: {fault}" if line else f"{file}: {fault}"
                for line, fault in checking.faults
            )
        )
    return values


class _Checking:
    """Gathers the faults of one file."""

    def __init__(self, lines: dict[tuple[str, str | None], int]) -> None:
        self.faults: list[tuple[int, str]] = []
        self._lines = lines

    def fault(self, section: str, key: str | None, message: str) -> None:
        line = (
            self._lines.get((section, key))
            or self._lines.get((section, None))
            or self._lines.get(("", section), 0)
        )
        self.faults.append((line, message))

    def section(self, name: str, keys: dict[str, Key], content: Any) -> dict[str, Any]:
        """Return the section's values, defaults filled in."""
        if not isinstance(content, dict):
            self.fault(name, None, f"{name} must be a section: [{name}]")
            return {}
        for key in content:
            if key not in keys:
                self.fault(name, key, f"unknown key {name}.{key}{_nearest(key, keys)}")
        return {key: self._value(name, key, content, keys[key]) for key in keys}

    def _value(self, section: str, name: str, content: dict[str, Any], key: Key) -> Any:
        if name not in content:
            if key.required:
                self.fault(
                    section, None, f"{section}.{name} is missing; write {key.fix}"
                )
            return key.default
        value = content[name]
        if not _fits(value, key):
            self.fault(
                section,
                name,
                f"{section}.{name} = {value!r} will not do; write {key.fix}",
            )
            return key.default
        return float(value) if key.kind is float else value


def _fits(value: Any, key: Key) -> bool:
    if key.kind is bool or isinstance(value, bool):
        return key.kind is bool and isinstance(value, bool)
    if key.kind is float:
        if not isinstance(value, (int, float)):
            return False
    elif not isinstance(value, key.kind):
        return False
    if isinstance(value, str):
        return bool(value.strip()) and (
            key.pattern is None or re.fullmatch(key.pattern, value) is not None
        )
    # A comparison with NaN is false, so NaN fits nowhere.
    return (key.least is None or value >= key.least) and (
        key.most is None or value <= key.most
    )


def _nearest(name: str, known: Any) -> str:
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean {found[0]}?" if found else f"; known: {', '.join(known)}"


def _locate(text: str) -> dict[tuple[str, str | None], int]:
    """Return the line of each section (key None) and of each of its keys."""
    lines: dict[tuple[str, str | None], int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            section = header[1]
            lines.setdefault((section, None), number)
        elif key := _KEY.match(line):
            lines.setdefault((section, key[1]), number)
    return lines
