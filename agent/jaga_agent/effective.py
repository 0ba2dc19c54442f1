"""The configuration in force: the card's file, or what an operator applied over it.

Reads the two and joins them by `core.applied`; only `begin`, at the agent's start,
writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jaga_agent import config as config_module
from jaga_agent.adapters import kept as kept_module
from jaga_agent.core import applied
from jaga_agent.core.applied import Applied, Source
from jaga_agent.errors import ConfigError, KeptError

if TYPE_CHECKING:
    from jaga_agent.adapters.kept import KeptFile
    from jaga_agent.config import Config


@dataclass(frozen=True, slots=True)
class InForce:
    """A configuration and where it is from."""

    config: Config
    hash: str
    """16 hexadecimal digits of its SHA-256."""
    text: str
    source: Source
    base: str
    """SHA-256 of the card's file."""
    kept: Applied | None
    file: KeptFile[Applied]
    trouble: str | None = None
    """Why what was applied is not in force, if it should be."""

    def said(self, path: Path) -> str:
        """Return one line for the technician."""
        if self.source is Source.FILE:
            return f"in force: {path}"
        word = "on trial" if self.source is Source.TRIAL else "applied"
        return (
            f"in force: the configuration {word} by an operator's order (hash "
            f"{self.hash}), over {path}; change that file, and it holds instead"
        )


def load(path: Path) -> InForce:
    """Return what is in force over the card's file; raises ConfigError."""
    return _load(path, begins=False)


def begin(path: Path) -> InForce:
    """Return the same for an agent that starts with it: a trial begins, or is over.

    Raises ConfigError about the card's file; KeptError if the card does not take what
    must be on it before a trial.
    """
    return _load(path, begins=True)


def _load(path: Path, *, begins: bool) -> InForce:
    text = config_module.read(path)
    config, short = config_module.parse(text, name=str(path))
    base = config_module.digest(text)
    file = kept_module.configuration(Path(config.state.directory))
    try:
        kept = file.load()
    except KeptError as error:
        return InForce(config, short, text, Source.FILE, base, None, file, str(error))
    if begins:
        fresh = applied.started(kept, base)
        if fresh is not None and fresh != kept:
            file.save(fresh)
        kept = fresh
    source, over = applied.in_force(kept, base)
    if over is None:
        return InForce(config, short, text, source, base, kept, file)
    name = f"the configuration that was applied over {path}"
    try:
        config_over, short_over = config_module.parse(over, name=name)
    except ConfigError as error:
        # Of another version of the agent: the site must be guarded all the same.
        if begins and source is Source.TRIAL and kept is not None:
            kept = applied.rolled_back(kept, str(error))
            file.save(kept)
        trouble = str(error)
        return InForce(config, short, text, Source.FILE, base, kept, file, trouble)
    return InForce(config_over, short_over, over, source, base, kept, file)
