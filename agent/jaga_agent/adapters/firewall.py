"""nftables by its own tool: one table, one transaction. Decides nothing.

The stamp in the table's comment tells whether it is already what is wanted, so that a
restart of the agent touches no rule and no counter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaga_agent import program
from jaga_agent.core.firewall import FAMILY, TABLE
from jaga_agent.errors import FirewallError

if TYPE_CHECKING:
    from jaga_agent.core.firewall import Ruleset

_TIMEOUT_S = 10.0
"""nft takes 3 ms here and some 20 ms on a Pi; beyond this it hangs."""


class NftFirewall:
    """`ports.Firewall` on the `nft` command."""

    def __init__(self, command: str = "nft") -> None:
        self._command = command

    async def ensure(self, ruleset: Ruleset) -> bool:
        """Load the ruleset unless its stamp is there; return whether it was loaded.

        Raises:
            FirewallError: nft is not installed, has no permission, or refused it.

        """
        standing = await self._list()
        if standing is not None and f'comment "{ruleset.stamp}"' in standing:
            return False
        code, _, error = await self._nft("-f", "-", stdin=ruleset.text)
        if code:
            raise _refusal(error, to="load the ruleset")
        return True

    async def remove(self) -> bool:
        """Remove our table; return whether there was one.

        Raises:
            FirewallError: nft is not installed or has no permission.

        """
        if await self._list() is None:
            return False
        code, _, error = await self._nft("delete", "table", FAMILY, TABLE)
        if code:
            raise _refusal(error, to="delete the table")
        return True

    async def _list(self) -> str | None:
        """Return our table as text, or None if there is none."""
        code, out, error = await self._nft("list", "table", FAMILY, TABLE)
        if code == 0:
            return out
        if "No such file or directory" in error:
            return None
        raise _refusal(error, to="read the ruleset")

    async def _nft(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        try:
            code, out, error_said = await program.run(
                self._command, *arguments, stdin=stdin.encode(), timeout_s=_TIMEOUT_S
            )
        except FileNotFoundError as error:
            msg = (
                f"{self._command} is not installed: install the Debian package nftables"
            )
            raise FirewallError(msg) from error
        except TimeoutError as error:
            msg = f"{self._command} did not answer within {_TIMEOUT_S:g} s"
            raise FirewallError(msg) from error
        except OSError as error:
            msg = f"cannot run {self._command}: {error.strerror}"
            raise FirewallError(msg) from error
        return code, out.decode(), error_said.decode()


def _refusal(error: str, *, to: str) -> FirewallError:
    if "Operation not permitted" in error:
        msg = (
            f"cannot {to}: no permission: needs CAP_NET_ADMIN "
            "(run as root or by systemd unit)"
        )
        return FirewallError(msg)
    first = next((line for line in error.splitlines() if line.strip()), "no reason")
    return FirewallError(f"cannot {to}: nft says: {first.strip()}")
