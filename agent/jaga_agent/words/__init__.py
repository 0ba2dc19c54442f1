"""What `explain` says, in each language: templates by stable keys. Pure.

`id.py` and `en.py` hold the same keys with the same placeholders (a test compares
them). Keys below `reason.` are the engine's codes; a code that is not there falls back
to the engine's own English sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from string import Formatter
from typing import TYPE_CHECKING, Final

import jaga_agent.words.en as english
import jaga_agent.words.id as indonesian

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WITA: Final = timezone(timedelta(hours=8), "WITA")
"""Central Indonesian Time, the district's."""
LANGUAGES: Final = {"id": indonesian.TEXTS, "en": english.TEXTS}
VARIANTS: Final = {
    "loss.high": ("loss.counted", "loss.high"),
    "slow": ("slow.base", "slow"),
    "check.failed": ("check.failed", "check.alone"),
    "dns.dead": ("dns.dead", "dns.dead.alone"),
    "clean": ("clean", "clean.plain"),
}
"""Codes that are said by more than one text: the first one that has its values."""


@dataclass(frozen=True, slots=True)
class Words:
    """One language."""

    texts: Mapping[str, str]

    def say(self, key: str, **values: object) -> str:
        """Return a text with its values; raises KeyError for one that lacks."""
        return self.texts[key].format(**values)

    def reason(
        self, code: str | None, values: Mapping[str, str], **context: str
    ) -> str | None:
        """Return a coded reason as words; None for an unknown code or values amiss.

        A value `x_ms` or `x_s` can be said as `{x}`, a time span; `verdict`,
        `level` (as `{what}`), `source` and `before` (of the time) and `cause_code` (as `{cause}`) are said in words. `context` is said in place of values.
        """
        if code is None:
            return None
        said = self._said(values) | context
        for variant in VARIANTS.get(code, (code,)):
            template = self.texts.get(f"reason.{variant}")
            if template is not None and _needed(template) <= said.keys():
                return template.format(**said)
        return None

    def _said(self, values: Mapping[str, str]) -> dict[str, str]:
        said = dict(values)
        for name, value in values.items():
            stem, _, unit = name.rpartition("_")
            if unit in {"ms", "s"} and _is_number(value):
                said[stem] = self.span(float(value) / (1000 if unit == "ms" else 1))
        if "took" in said:
            said.setdefault("silent", said["took"])
        if "verdict" in values:
            verdict = values["verdict"]
            said["verdict"] = self.texts.get(f"verdict.{verdict}", verdict)
        for name in ("source", "before"):
            word = self.texts.get(f"source.{values.get(name)}")
            if word is not None:
                said[name] = word
        if f"level.{values.get('level')}" in self.texts:
            said["what"] = self.texts[f"level.{values['level']}"]
        if "cause_code" in values:
            others = {k: v for k, v in values.items() if k != "cause_code"}
            cause = self.reason(values["cause_code"], others)
            said["cause"] = cause or values.get("cause", values["cause_code"])
        return said

    def number(self, value: float, digits: int = 0) -> str:
        """Return a number with the language's decimal sign."""
        return f"{value:.{digits}f}".replace(".", self.texts["decimal"])

    def span(self, seconds: float) -> str:
        """Return a duration as people say it."""
        if seconds < 0.1:
            return self.say("span.ms", n=round(seconds * 1000))
        if seconds < 10:
            return self.say("span.s", n=self.number(seconds, 2))
        whole = round(seconds)
        if whole < 60:
            return self.say("span.s", n=whole)
        if whole < 3600:
            minutes, rest = divmod(whole, 60)
            key = "span.min_s" if rest else "span.min"
            return self.say(key, n=minutes, s=rest)
        if whole >= 172_800:
            days, rest = divmod(whole, 86_400)
            return self.say("span.d_h", n=days, h=rest // 3600)
        hours, minutes = divmod(round(whole / 60), 60)
        return self.say("span.h_min", n=hours, min=minutes)

    def clock(self, wall_ms: float) -> str:
        """Return the time of day in the district."""
        return self.at(wall_ms).strftime(self.texts["clock"])

    def date(self, wall_ms: float) -> str:
        """Return the day in the district."""
        at = self.at(wall_ms)
        month = self.texts["months"].split()[at.month - 1]
        return f"{at.day} {month} {at.year}"

    def listed(self, names: Sequence[str]) -> str:
        """Return names as people list them."""
        if len(names) < 2:
            return "".join(names)
        return f"{', '.join(names[:-1])} {self.texts['and']} {names[-1]}"

    @staticmethod
    def at(wall_ms: float) -> datetime:
        """Return the district's time of Unix milliseconds."""
        return datetime.fromtimestamp(wall_ms / 1000, UTC).astimezone(WITA)


def of(language: str) -> Words:
    """Return the words of a language, `id` or `en`."""
    return Words(LANGUAGES[language])


def _needed(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
