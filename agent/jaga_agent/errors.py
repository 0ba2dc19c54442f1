"""Every error this package raises, typed by who must act.

* JagaError
  x ConfigError          the operator must fix a file; the message names key, line and fix
  x PermissionMissingError  the agent must be started with more rights
  x AdapterError         the outside world refused
    - NetlinkError       the kernel refused a link, address, route, rule or conntrack request
    - FirewallError      nft refused the ruleset, or is not installed
    - SettingError       a sysctl could not be read or written
    - ProbeError         a probe socket could not be opened or bound
    - BrokerError        the MQTT broker refused us for good (not: is unreachable)
    - SpoolError         the spool cannot be opened or is from a newer version
    - DevicesError       the devices' counters or carriers cannot be read
    - FlowCountersError  the firewall's counters cannot be read
    - ClockError         the time that is held cannot be kept or read
    - LedgerError        the bytes carried cannot be kept or read
    - JournalError       the engine's journal cannot be written or read
    - ChainError         the decision chain cannot be written or read, or is broken
    - KeptError          what must survive a power cut cannot be read or written
    - ModemError         a modem cannot be made to begin anew
    - EvidenceError      a decision's evidence cannot be written or found
    - ResolverError      the LAN's resolver does not run, or its list cannot be written
    - SigningError       openssl cannot sign, or cannot read a key
    - StatusError        the agent's Unix socket cannot be served or reached
      + NotRunningError  nobody serves it
"""


class JagaError(Exception):
    """Base of every error raised on purpose."""


class ConfigError(JagaError):
    """The configuration cannot be used; the message says how to mend it."""


class PermissionMissingError(JagaError):
    """The agent was started without a right it needs."""


class AdapterError(JagaError):
    """An adapter could not do what it was asked."""


class NetlinkError(AdapterError):
    """The kernel refused a link, address, route, rule or conntrack request."""


class FirewallError(AdapterError):
    """The nftables ruleset could not be loaded."""


class SettingError(AdapterError):
    """A kernel setting (sysctl) could not be read or written."""


class ProbeError(AdapterError):
    """A probe socket could not be opened or bound to its device."""


class BrokerError(AdapterError):
    """The MQTT broker refused this client."""


class SpoolError(AdapterError):
    """The spool cannot be opened or written."""


class DevicesError(AdapterError):
    """The devices' counters or carriers cannot be read."""


class FlowCountersError(AdapterError):
    """The firewall's counters cannot be read."""


class ClockError(AdapterError):
    """The time that is held cannot be kept or read."""


class LedgerError(AdapterError):
    """The bytes carried in the quota period cannot be kept or read."""


class JournalError(AdapterError):
    """The engine's journal cannot be written or read."""


class ChainError(AdapterError):
    """The decision chain cannot be written or read, or is broken."""


class EvidenceError(AdapterError):
    """A decision's evidence cannot be written, or there is none."""


class ResolverError(AdapterError):
    """The LAN's resolver does not run, or its list cannot be written."""


class KeptError(AdapterError):
    """What must survive a power cut is damaged, or cannot be written."""


class ModemError(AdapterError):
    """A modem cannot be made to begin anew."""


class SigningError(AdapterError):
    """A signature cannot be made or checked: openssl or a key is at fault."""


class StatusError(AdapterError):
    """The agent's status socket cannot be served or reached."""


class NotRunningError(StatusError):
    """No agent runs that could be asked."""
