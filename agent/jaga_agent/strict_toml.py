"""Strict TOML: each fault names the file, the line, the key and the fix.

A file's shape is a msgspec Struct that forbids unknown keys. What a value must look
like is said in words: by `description` of its `msgspec.Meta`, else from its type.
Stands alone: it knows no configuration of ours, and both programs use it.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec import inspect

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

T = TypeVar("T", bound=msgspec.Struct)

KeyPath = tuple[str | int, ...]
"""Where in a file: keys, and from 0 the places in lists."""
Fault = tuple[KeyPath, str]
"""Where, and what is wrong there."""

Text = Annotated[str, msgspec.Meta(pattern=r"\S")]
"""Not blank."""
Secret = Annotated[Text, msgspec.Meta(extra={"secret": True})]
"""No message shows it."""
Port = Annotated[int, msgspec.Meta(ge=1, le=65535, description="a port, 1 to 65535")]

# tomllib keeps no positions: a line is found again by scanning the text for the key.
_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*(?:"([^"]+)"|'([^']+)'|([A-Za-z0-9_-]+))\s*(?:\.|=)""")


class TomlError(Exception):
    """The file cannot be used; each line of the message is one fault and its fix."""


def load(path: Path, kind: type[T]) -> tuple[T, str]:
    """Return the file decoded as `kind` (a msgspec Struct, unknown keys forbidden).

    Also returns the text. Raises TomlError with every fault.
    """
    text = read(path)
    return parse(text, kind, name=str(path)), text


def read(path: Path) -> str:
    """Return the file's text; raises TomlError."""
    try:
        # Windows' Notepad begins a file with a byte-order mark.
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        msg = f"{path}: no such file; give its place with --config"
        raise TomlError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{path}: not UTF-8 text; save it as UTF-8"
        raise TomlError(msg) from error
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}"
        raise TomlError(msg) from error


def parse(text: str, kind: type[T], *, name: str) -> T:
    """Return `text` decoded as `kind`; raises TomlError with every fault."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        msg = f"{name}: not TOML: {error}"
        raise TomlError(msg) from error
    refuse(name, text, _in_table(tree, kind, ()))
    return msgspec.convert(tree, kind, strict=True)


def refuse(name: str, text: str, faults: Iterable[Fault]) -> None:
    """Raise TomlError if there are faults: one a line, in the file's order."""
    found = [(line_of(text, path), path, problem) for path, problem in faults]
    if not found:
        return
    found.sort(key=lambda fault: fault[0] or 0)
    raise TomlError(
        "\n".join(
            f"{f'{name}:{line}' if line else name}: {spelled(path)}: {problem}"
            for line, path, problem in found
        )
    )


def spelled(path: KeyPath) -> str:
    """Return a path as people write it: `uplink[2].device` counts from 1."""
    out = ""
    for step in path:
        if isinstance(step, int):
            out += f"[{step + 1}]"
        else:
            out += f".{step}" if out else step
    return out or "the file"


def line_of(text: str, path: KeyPath) -> int | None:
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


def _in_table(tree: dict[str, Any], kind: type, at: KeyPath) -> Iterator[Fault]:
    """Yield what is wrong in a table and below it."""
    fields = {f.encode_name: f for f in msgspec.structs.fields(kind)}
    meant = set()
    for key in tree.keys() - fields.keys():
        near = difflib.get_close_matches(key, fields, n=1)
        meant.update(near)
        hint = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(fields)}"
        yield (*at, key), f"unknown key; {hint}"
    for key, field in fields.items():
        if key in tree:
            yield from _in_value(tree[key], field.type, (*at, key))
        # A misspelt key is one mistake, not two.
        elif field.required and key not in meant:
            yield (*at, key), f"missing; {_addition(field.type, (*at, key))}"


def _in_value(value: Any, kind: Any, at: KeyPath) -> Iterator[Fault]:
    shape = _shape(kind)
    if isinstance(shape.type, inspect.StructType):
        if isinstance(value, dict):
            yield from _in_table(value, shape.type.cls, at)
        else:
            yield at, f"want a table: [{spelled(at)}]"
    elif (row := _row(shape.type)) is not None:
        if not (isinstance(value, list) and all(isinstance(v, dict) for v in value)):
            yield at, f"want tables: [[{spelled(at)}]]"
            return
        least, most = shape.type.min_length or 0, shape.type.max_length or math.inf
        if not least <= len(value) <= most:
            yield at, f"{len(value)} of them; want {_ends(least, most)}"
        for index, each in enumerate(value):
            yield from _in_table(each, row, (*at, index))
    elif not _fits(value, kind):
        shown = "this" if shape.secret else _shown(value)
        yield at, f"{shown} will not do; want {_wanted(shape)}"


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False  # TOML knows `nan` and `inf`; no setting does.
    try:
        msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError:
        return False
    return True


def without_secrets(value: msgspec.Struct) -> dict[str, Any]:
    """Return what a file says, defaults included, as plain values; no secret is in it."""
    told: dict[str, Any] = msgspec.to_builtins(value)
    for field in msgspec.structs.fields(type(value)):
        held = getattr(value, field.name)
        if held is not None and _shape(field.type).secret:
            told[field.encode_name] = "(secret)"
        elif isinstance(held, msgspec.Struct):
            told[field.encode_name] = without_secrets(held)
        elif isinstance(held, tuple):
            told[field.encode_name] = [
                without_secrets(each)
                if isinstance(each, msgspec.Struct)
                else msgspec.to_builtins(each)
                for each in held
            ]
    return told


class _Shape(NamedTuple):
    """A type without its `| None`, which TOML cannot write, and what is said of it."""

    type: Any
    description: str | None = None
    secret: bool = False


def _shape(kind: Any) -> _Shape:
    return _bare(inspect.type_info(kind))


def _bare(info: inspect.Type) -> _Shape:
    if isinstance(info, inspect.UnionType):
        (info,) = (t for t in info.types if not isinstance(t, inspect.NoneType))
        return _bare(info)
    if isinstance(info, inspect.Metadata):
        said = (info.extra_json_schema or {}).get("description")
        return _Shape(info.type, said, bool((info.extra or {}).get("secret")))
    return _Shape(info)


def _row(info: Any) -> type | None:
    """Return the Struct of an array of tables; None for anything else."""
    if not isinstance(info, inspect.VarTupleType):
        return None
    item = _bare(info.item_type).type
    return item.cls if isinstance(item, inspect.StructType) else None


def _addition(kind: Any, at: KeyPath) -> str:
    shape = _shape(kind)
    key = str(at[-1])
    if isinstance(shape.type, inspect.StructType):
        needed = [f.encode_name for f in shape.type.fields if f.required]
        return f"add the table [{spelled(at)}] with {', '.join(needed)}"
    if _row(shape.type) is not None:
        return f"add a table [[{spelled(at)}]]"
    return f"add `{key} = …`: {_wanted(shape)}"


def _wanted(shape: _Shape) -> str:
    """Return what to write, as the end of a sentence."""
    if shape.description:
        return shape.description
    match shape.type:
        case inspect.BoolType():
            words = "true or false"
        case inspect.IntType() as number:
            words = f"a whole number{_range(number)}"
        case inspect.FloatType() as number:
            words = f"a number{_range(number)}"
        case inspect.EnumType(cls=members):
            words = f"one of {', '.join(_shown(each.value) for each in members)}"
        case inspect.LiteralType(values=values):
            words = f"one of {', '.join(_shown(each) for each in values)}"
        case inspect.VarTupleType(item_type=item):
            words = f"a list, each {_wanted(_bare(item))}"
        case _:
            words = "some text in quotes"
    return words


def _range(info: inspect.IntType | inspect.FloatType) -> str:
    if info.gt is not None:
        return f" above {info.gt:g}"
    if info.ge is None:
        return ""
    return f", {_ends(info.ge, math.inf if info.le is None else info.le)}"


def _ends(least: float, most: float) -> str:
    # `:g` would write 65535000 as 6.5535e+07.
    return f"{least} or more" if most == math.inf else f"{least} to {most}"


def _shown(value: Any) -> str:
    """Return a value as a TOML file has it; dates and tables roughly so."""
    if isinstance(value, float):
        return str(value)  # JSON would say NaN and Infinity.
    return json.dumps(value, ensure_ascii=False, default=str)
