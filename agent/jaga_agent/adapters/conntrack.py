"""The kernel's connection table, by pyroute2. Decides nothing.

A socket for each flush: it costs less than the flush of a full table, and a socket that
lay idle since the last failover is one more thing that may have broken.
"""

from __future__ import annotations

from jaga_agent.errors import NetlinkError
from jaga_agent.pyroute2_door import AsyncConntrack, KernelRefusal


class NetlinkConntrack:
    """`ports.Conntrack` on nfnetlink."""

    async def flush_mark(self, mark: int, mask: int) -> None:
        """Forget the connections with this mark, of IPv4 and IPv6 alike.

        Raises:
            NetlinkError: no permission, or the kernel has no conntrack netlink.

        """
        try:
            async with AsyncConntrack() as conntrack:
                await conntrack.flush(mark=mark, mark_mask=mask)
        except (KernelRefusal, OSError) as error:
            raise _refused(mark, error) from error


def _refused(mark: int, error: KernelRefusal | OSError) -> NetlinkError:
    code = error.code if isinstance(error, KernelRefusal) else error.errno
    what = f"cannot flush connections marked {mark:#x}"
    if code == 1:
        return NetlinkError(
            f"{what}: no permission: needs CAP_NET_ADMIN "
            "(run as root or by systemd unit)"
        )
    return NetlinkError(f"{what}: {error} (kernel module nf_conntrack_netlink?)")
