"""Every error this package raises, typed by who must act.

* CollectorError
  x ConfigError          the operator must fix a file; the message names key, line and fix
  x StoreError           the database cannot be used (newer version, locked, disk full)
  x StoreReplacedError   another file has its name now: end, and be started anew
  x BrokerError          the broker refused this collector for good
  x WebError             the page's port cannot be had
  x EchoError            the reflector's port cannot be had
"""


class CollectorError(Exception):
    """Base of every error raised on purpose; the message is for the operator."""


class ConfigError(CollectorError):
    """The configuration cannot be used; the message says how to mend it."""


class StoreError(CollectorError):
    """The database cannot be used."""


class StoreReplacedError(CollectorError):
    """The database's file was replaced under the running collector."""


class BrokerError(CollectorError):
    """The MQTT broker refused this collector."""


class WebError(CollectorError):
    """The page's address cannot be had."""


class EchoError(CollectorError):
    """The reflector's address cannot be had."""
