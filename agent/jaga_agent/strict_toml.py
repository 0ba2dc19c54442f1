"""Strict TOML: each error names the file, the line, the key and the fix.

tomllib keeps no positions, so a line is found again by scanning the text for the key;
msgspec checks shapes and says where it stopped as a path such as `$.uplink[0].device`.
Stands alone: it knows no configuration of ours, and both programs use it.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from typing import TYPE_CHECKING, TypeVar

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T", bound=msgspec.Struct)

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*(?:"([^"]+)"|'([^']+)'|([A-Za-z0-9_-]+))\s*(?:\.|=)""")
_UNKNOWN = re.compile(r"Object contains unknown field `([^`]+)`")
_MISSING = re.compile(r"Object missing required field `([^`]+)`")
_AT = re.compile(r" - at `\$([^`]*)`$")
_STEP = re.compile(r"\.([A-Za-z0-9_-]+)|\[(\d+)\]")


class TomlError(Exception):
    """The file cannot be used; the message is one line for the person who edits it."""


def load(path: Path, kind: type[T]) -> tuple[T, str]:
    """Return the file decoded as `kind` (a msgspec Struct, unknown keys forbidden).

    Also returns the text. Raises TomlError.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        msg = f"{path}: no such file; give its place with --config"
        raise TomlError(msg) from error
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"
        raise TomlError(msg) from error
    return parse(text, kind, name=str(path)), text


def parse(text: str, kind: type[T], *, name: str) -> T:
    """Return `text` decoded as `kind`; raises TomlError."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        msg = f"{name}: not TOML: {error}"
        raise TomlError(msg) from error
    try:
        return msgspec.convert(tree, kind, strict=True)
    except msgspec.ValidationError as error:
        raise TomlError(_explain(str(error), text, kind, name)) from error


def located(name: str, text: str, path: tuple[str | int, ...], problem: str) -> str:
    """Return one line that names the file, the line and the key of a problem."""
    line = line_of(text, path)
    where = f"{name}:{line}" if line is not None else name
    return f"{where}: {spelled(path)}: {problem}"


def spelled(path: tuple[str | int, ...]) -> str:
    """Return a path as people write it: `uplink[2].device` counts from 1."""
    out = ""
    for step in path:
        if isinstance(step, int):
            out += f"[{step + 1}]"
        else:
            out += f".{step}" if out else step
    return out or "the file"


def line_of(text: str, path: tuple[str | int, ...]) -> int | None:
    """Return the line (from 1) of a key, or of the nearest table above it."""
    best: int | None = None
    wanted = tuple(str(step) for step in path)
    table: tuple[str, ...] = ()
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            names = tuple(part.strip(" \"'") for part in header[2].split("."))
            if header[1] == "[[":
                key = ".".join(names)
                counts[key] = counts.get(key, -1) + 1
                table = (*names, str(counts[key]))
            else:
                table = names
            if wanted[: len(table)] == table:
                best = number
            continue
        if found := _KEY.match(line):
            here = (*table, found[1] or found[2] or found[3])
            if here == wanted[: len(here)] and len(here) > len(table):
                return number
    return best


def _explain(message: str, text: str, kind: type[msgspec.Struct], name: str) -> str:
    at = _AT.search(message)
    steps: tuple[str | int, ...] = ()
    if at:
        steps = tuple(
            int(index) if index else key for key, index in _STEP.findall(at[1])
        )
        message = message[: at.start()]
    if unknown := _UNKNOWN.search(message):
        key = unknown[1]
        known = _keys_at(kind, steps)
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(known)}"
        return located(name, text, (*steps, key), f"unknown key; {hint}")
    if missing := _MISSING.search(message):
        problem = f"missing; add `{missing[1]} = …` here"
        return located(name, text, (*steps, missing[1]), problem)
    return located(name, text, steps, message[:1].lower() + message[1:])


def _keys_at(kind: type, steps: tuple[str | int, ...]) -> list[str]:
    """Return the keys that a Struct at that place knows."""
    info: object = msgspec.inspect.type_info(kind)
    for step in steps:
        if isinstance(info, msgspec.inspect.UnionType):
            info = next(
                t for t in info.types if not isinstance(t, msgspec.inspect.NoneType)
            )
        if isinstance(step, int):
            info = getattr(info, "item_type", info)
        else:
            fields = getattr(info, "fields", ())
            info = next(f.type for f in fields if f.encode_name == step)
    if isinstance(info, msgspec.inspect.UnionType):
        info = next(
            t for t in info.types if not isinstance(t, msgspec.inspect.NoneType)
        )
    return [field.encode_name for field in getattr(info, "fields", ())]
