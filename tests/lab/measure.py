"""Start the phone's measuring program and read what it wrote, also while it runs."""

from __future__ import annotations

import itertools
import select
import subprocess
from typing import TYPE_CHECKING, Any

from lab import analysis
from lab.clock import boottime_s
from lab.errors import LabError
from lab.namespace import Namespace, end, ready_line
from lab.topology import PROVIDERS

if TYPE_CHECKING:
    from pathlib import Path

    from lab.analysis import Attempt, PhoneLog, Summary


class Phone(Namespace):
    """The phone: a namespace that can also measure."""

    def __init__(self, name: str, directory: Path) -> None:
        super().__init__(name)
        self._directory = directory
        self._number = itertools.count(1)

    def start(
        self,
        *,
        interval_ms: float = 50,
        timeout_s: float = 2,
        upload_bit_s: float = 400_000,
        ca: Path | None = None,
    ) -> Measurement:
        """Start measuring; `upload_bit_s=0` leaves the upload out.

        With `ca` (`Lab.ca`) each attempt is a TLS handshake and a question.
        """
        path = self._directory / f"phone-{next(self._number)}.jsonl"
        path.touch()
        process = self.python(
            "lab.phone",
            str(path),
            f"--interval-ms={interval_ms}",
            f"--timeout-s={timeout_s}",
            f"--upload-bit-s={upload_bit_s}",
            *(() if ca is None else (f"--ca={ca}",)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        ready_line(process, "the phone's measuring program")
        return Measurement(process, path, interval_ms / 1000)


class Measurement:
    """A phone that is measuring, or has."""

    def __init__(
        self, process: subprocess.Popen[Any], path: Path, interval_s: float
    ) -> None:
        self.process = process
        self.path = path
        self.interval_s = interval_s

    def log(self) -> PhoneLog:
        """Return what is written so far; attempts appear when they end."""
        with self.path.open() as lines:
            return analysis.parse(lines)

    def stop(self) -> PhoneLog:
        """End the phone and return its whole log. Repeatable."""
        end([self.process])
        return self.log()

    def summary(
        self, from_s: float | None = None, to_s: float | None = None
    ) -> Summary:
        """Return all numbers of a window (`analysis.summarise`)."""
        return analysis.summarise(
            self.log(), PROVIDERS, interval_s=self.interval_s, from_s=from_s, to_s=to_s
        )

    def wait_good(
        self,
        provider: str | None = None,
        since_s: float | None = None,
        timeout_s: float = 10,
    ) -> Attempt:
        """Wait for a good attempt started since then, by that provider if named."""
        since_s = boottime_s() if since_s is None else since_s
        deadline_s = boottime_s() + timeout_s
        while boottime_s() < deadline_s:
            for attempt in self.log().attempts:
                carried = PROVIDERS.get(attempt.seen or "", attempt.seen)
                if (
                    attempt.good()
                    and attempt.start_s >= since_s
                    and provider in {None, carried}
                ):
                    return attempt
            # The file has no event to wait for; the program's end has.
            select.select([], [], [], 0.02)
        by = f" by {provider}" if provider else ""
        msg = f"the phone reached Sirekap{by} not once within {timeout_s:g} s"
        raise LabError(msg)
