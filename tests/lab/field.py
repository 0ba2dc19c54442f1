"""A broker as in the field: TLS, certificates, rights, all made by `jaga-deploy` itself.

    with Field(tmp_path, sites=["tps-a"]) as field:
        files = field.site("tps-a")           # .ca, .cert, .key, .context()
        client.tls_set_context(files.context())
        client.connect(field.address, field.port)

Whatever is issued before `with` begins, or given as `sites`, `operators`, is in the
broker's rights; after later changes call `reload()` or `restart()`. In the lab's internet:
`address=topology.BROKER, port=8883, start=lab.internet.popen`.
"""

from __future__ import annotations

import os
import pwd
import signal
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from jaga_deploy import cli
from lab.broker import Broker
from lab.errors import LabError
from lab.namespace import popen
from support.waiting import until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable
    from pathlib import Path


@dataclass(frozen=True)
class Files:
    """What one holder has: paths of PEM files."""

    ca: Path
    cert: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Return what a client connects with."""
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.cert, self.key)
        return context


class Field:
    """A CA and the broker set up from it; `with` starts and ends the broker."""

    def __init__(
        self,
        directory: Path,
        *,
        sites: Iterable[str] = (),
        operators: Iterable[str] = (),
        address: str = "127.0.0.1",
        port: int | None = None,
        options: str = "",
        ca: Path | None = None,
        start: Callable[..., subprocess.Popen[Any]] = popen,
    ) -> None:
        """Make the CA, the broker's and the collector's certificate in `directory`.

        `options` are lines added to the broker's configuration; `ca` is a CA made before
        that has the broker's certificate; `start` runs a program, e.g. in a namespace.
        """
        self.directory = directory
        self.config = directory / "broker"
        self._options = options
        self._broker: Broker | None = None
        self.address = address
        self._port = port
        self._start = start
        self.ca = ca or directory / "ca"
        directory.mkdir(parents=True, exist_ok=True)
        if ca is None:
            self.deploy("ca", "init", str(self.ca), here=False)
            self.deploy("broker", "issue", address, "localhost")
            self.deploy("collector", "issue")
            self.deploy("collector", "issue", "history")
        for name in sites:
            self.deploy("site", "issue", name)
        for name in operators:
            self.deploy("operator", "issue", name)

    def deploy(self, *words: str, here: bool = True) -> None:
        """Run a `jaga-deploy` command on this CA; raises LabError if it refuses."""
        status = cli.main([*words, *(("--ca", str(self.ca)) if here else ())])
        if status != 0:
            msg = f"jaga-deploy {' '.join(words)}: status {status}"
            raise LabError(msg)

    def site(self, name: str) -> Files:
        """Return a site's files, issued now if it has none."""
        return self._files("site", name)

    def operator(self, name: str) -> Files:
        """Return an operator's files; `command.key` and `NAME.pub.pem` are beside."""
        return self._files("operator", name)

    def collector(self, name: str | None = None) -> Files:
        """Return the collector's files, or those of another connection beside it."""
        return self._files("collector", name or "collector")

    def _files(self, kind: str, name: str) -> Files:
        folder = self.ca / f"{kind}s" / name
        if not (folder / f"{kind}.crt").exists():
            self.deploy(kind, "issue", name)
        return Files(folder / "ca.crt", folder / f"{kind}.crt", folder / f"{kind}.key")

    @property
    def broker(self) -> Broker:
        """The running broker."""
        assert self._broker is not None, "use `with`"
        return self._broker

    @property
    def port(self) -> int:
        """Where it listens, with TLS."""
        return self.broker.port

    @property
    def operator_keys(self) -> Path:
        """The folder of the operators' public keys, as it goes to the cards."""
        return self.ca / "operator-keys"

    def configure(self) -> None:
        """Write the broker's folder anew from what is issued and revoked now."""
        self.deploy(
            *("broker", "config", str(self.config), "--at", str(self.config)),
            *("--state", str(self.directory / "mosquitto")),
            *("--user", pwd.getpwuid(os.geteuid()).pw_name),
            *("--port", str(self.port), "--address", self.address),
        )

    def reload(self) -> None:
        """Configure anew and let the broker read it (SIGHUP), without a restart."""
        self.configure()
        said = self.broker.log().count("Reloading config.")
        assert self.broker.process is not None
        self.broker.process.send_signal(signal.SIGHUP)
        until(lambda: self.broker.log().count("Reloading config.") > said)

    def restart(self, how: signal.Signals | None = None) -> None:
        """Configure anew and start the broker again."""
        self.configure()
        self.broker.stop(how)
        self.broker.start()

    def __enter__(self) -> Self:
        self._broker = Broker(
            self.directory / "mosquitto",
            address=self.address,
            port=self._port,
            config="# not yet",
        )
        self.configure()
        self._broker = Broker(
            self.directory / "mosquitto",
            address=self.address,
            port=self.port,
            config=(self.config / "jaga.conf").read_text() + self._options,
            start=self._start,
        )
        self._broker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.broker.stop()
