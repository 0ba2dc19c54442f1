"""Every error this package raises on purpose; the message says what to do next.

* DeployError
  x RefusedError         what was asked for must not be done; nothing was changed
  x FolderError          the CA's folder, or one to write to, cannot be used
  x KeyFileError         a key, certificate, request or passphrase is not what it should be
"""


class DeployError(Exception):
    """Base of every error raised on purpose; the message is for the operator."""


class RefusedError(DeployError):
    """What was asked for must not be done."""


class FolderError(DeployError):
    """A folder or a file in it cannot be used."""


class KeyFileError(DeployError):
    """A key, certificate, request or passphrase is not what it should be."""
