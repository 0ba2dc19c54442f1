"""jaga-agent on a kernel that says NTP does not keep its clock.

For machines whose NTP does: there a wall clock that a test has moved for one program
alone would come with the kernel's word that it is right.
"""

import sys

from jaga_agent import cli
from jaga_agent.adapters.clock import BoottimeClock
from jaga_agent.core.timekeeping import KERNEL_LIMIT_US, NtpState

BoottimeClock.ntp = lambda _: NtpState(KERNEL_LIMIT_US, KERNEL_LIMIT_US, 0)  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(cli.main())
