"""`jaga-deploy` as an operator meets it: files, refusals, interrupted runs."""

import json
import re
import shutil
import stat
import subprocess
import sys

import pytest

from jaga_deploy import cli
from jaga_deploy.adapters import clock, folder
from jaga_deploy.core.ledger import DAY_S

SITE = "tps-6408052001-901"


def openssl(*words):
    ran = subprocess.run(
        ["openssl", *map(str, words)], check=False, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture
def ca(tmp_path):
    path = tmp_path / "ca"
    assert cli.main(["ca", "init", str(path)]) == 0
    return path


@pytest.fixture
def deploy(ca, capsys):
    """Run a command on this CA; return its status, output and errors."""

    def run(*words):
        capsys.readouterr()
        status = cli.main([*map(str, words), "--ca", str(ca)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def good(deploy):
    """The same, of a command that must succeed; return its output."""

    def run(*words):
        status, out, err = deploy(*words)
        assert status == 0, err
        return out

    return run


def tree(path):
    """Return every file's content and mode by its name."""
    return {
        each.relative_to(path).as_posix(): (each.read_bytes(), each.stat().st_mode)
        for each in path.rglob("*")
        if each.is_file() and each.name != folder.LOCK
    }


def serial(path):
    return openssl("x509", "-in", path, "-noout", "-serial").strip().split("=")[1]


def public(path):
    return openssl("x509", "-in", path, "-noout", "-pubkey")


# -- what is made ------------------------------------------------------------------
def test_a_ca_by_openssls_eyes(ca):
    text = openssl("x509", "-in", ca / "ca.crt", "-noout", "-text")
    for wanted in (
        "NIST CURVE: P-256",
        "ecdsa-with-SHA256",
        "CA:TRUE, pathlen:0",
        "Certificate Sign, CRL Sign",
    ):
        assert wanted in text
    assert stat.S_IMODE((ca / "ca.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(ca.stat().st_mode) == 0o700
    openssl("verify", "-x509_strict", "-CAfile", ca / "ca.crt", ca / "ca.crt")


ISSUES = {
    "site": (("site", "issue", SITE), f"sites/{SITE}/site", SITE, "sslclient"),
    "collector": (
        ("collector", "issue"),
        "collectors/collector/collector",
        "collector",
        "sslclient",
    ),
    "second collector": (
        ("collector", "issue", "hall"),
        "collectors/hall/collector",
        "collector-hall",
        "sslclient",
    ),
    "operator": (
        ("operator", "issue", "ani"),
        "operators/ani/operator",
        "operator-ani",
        "sslclient",
    ),
    "broker": (
        ("broker", "issue", "collector.kutimkab.go.id", "10.0.0.7", "::1"),
        "brokers/collector.kutimkab.go.id/server",
        "collector.kutimkab.go.id",
        "sslserver",
    ),
}


@pytest.mark.parametrize("what", ISSUES)
def test_a_certificate_by_openssls_eyes(what, ca, good):
    words, stem, name, purpose = ISSUES[what]
    good(*words)
    cert, key = ca / f"{stem}.crt", ca / f"{stem}.key"
    openssl(
        *("verify", "-x509_strict", "-crl_check", "-CRLfile", ca / "ca.crl"),
        *("-CAfile", ca / "ca.crt", "-purpose", purpose, cert),
    )
    subject = openssl("x509", "-in", cert, "-noout", "-subject").strip()
    assert subject == f"subject=O = Jaga, OU = {words[0]}, CN = {name}"
    assert openssl("pkey", "-in", key, "-pubout") == public(cert)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert (cert.parent / "ca.crt").read_bytes() == (ca / "ca.crt").read_bytes()
    kept = ca / "certificates" / f"{serial(cert).lower().zfill(40)}.crt"
    assert kept.read_bytes() == cert.read_bytes()
    if what == "broker":
        names = openssl("x509", "-in", cert, "-noout", "-ext", "subjectAltName")
        assert "DNS:collector.kutimkab.go.id, IP Address:10.0.0.7" in names
        assert "IP Address:0:0:0:0:0:0:0:1" in names


def test_a_broker_is_believed_since_the_ca_began_and_a_site_since_yesterday(ca, good):
    """A Pi without a clock thinks that it is the day on which its card was written."""
    good("broker", "issue", "h")
    good("site", "issue", SITE)

    def begins(path):
        return openssl("x509", "-in", path, "-noout", "-startdate")

    assert begins(ca / "brokers/h/server.crt") == begins(ca / "ca.crt")
    openssl(
        "verify", "-CAfile", ca / "ca.crt", "-attime", clock.wall_s() - DAY_S + 60,
        ca / f"sites/{SITE}/site.crt",
    )  # fmt: skip


def test_an_operators_signing_key_is_apart_and_its_public_half_for_the_cards(ca, good):
    good("operator", "issue", "ani")
    own = ca / "operators/ani"
    openssl(
        "dgst", "-sha256", "-sign", own / "command.key", "-out", own / "sig", __file__
    )
    said = openssl(
        *("dgst", "-sha256", "-verify", ca / "operator-keys/ani.pub.pem"),
        *("-signature", own / "sig", __file__),
    )
    assert said == "Verified OK\n"
    assert (own / "ani.pub.pem").read_text() != public(own / "operator.crt")
    good("operator", "revoke", "ani")
    assert not (ca / "operator-keys/ani.pub.pem").exists()


def test_a_key_born_on_the_pi_stays_there(ca, good, tmp_path):
    key, csr = tmp_path / "pi.key", tmp_path / "pi.csr"
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    # Whatever name the request claims: the operator's word counts.
    openssl("req", "-new", "-key", key, "-subj", "/CN=collector", "-out", csr)
    good("site", "issue", SITE, "--csr", csr)
    cert = ca / f"sites/{SITE}/site.crt"
    assert public(cert) == openssl("pkey", "-in", key, "-pubout")
    assert f"CN = {SITE}" in openssl("x509", "-in", cert, "-noout", "-subject")
    assert not (ca / f"sites/{SITE}/site.key").exists()
    # A renewal needs nothing from the Pi.
    good("site", "renew", SITE)
    assert public(cert) == openssl("pkey", "-in", key, "-pubout")


# -- renewal and revocation ----------------------------------------------------------
def test_renewal_keeps_the_key_and_the_old_one_stays_valid(ca, good):
    good("site", "issue", SITE)
    cert = ca / f"sites/{SITE}/site.crt"
    old, old_key = serial(cert), public(cert)
    good("site", "renew", SITE)
    assert (public(cert), serial(cert) != old) == (old_key, True)
    good("site", "renew", SITE, "--new-key")
    assert public(cert) != old_key
    assert openssl("pkey", "-in", cert.with_suffix(".key"), "-pubout") == public(cert)
    for each in (ca / "certificates").iterdir():
        openssl(
            *("verify", "-crl_check", "-CRLfile", ca / "ca.crl", "-CAfile"),
            *(ca / "ca.crt", each),
        )


def revoked(ca):
    text = openssl(
        "crl", "-in", ca / "ca.crl", "-noout", "-text", "-CAfile", ca / "ca.crt"
    )
    return set(re.findall(r"Serial Number: ([0-9A-F]+)", text))


def test_revocation_by_openssls_eyes(ca, good, deploy):
    good("site", "issue", SITE)
    cert = ca / f"sites/{SITE}/site.crt"
    first = serial(cert)
    good("site", "renew", SITE, "--new-key")
    second = serial(cert)
    good("site", "revoke", SITE, "--serial", first)
    assert revoked(ca) == {first}
    good("site", "revoke", SITE)
    assert revoked(ca) == {first, second}
    # Again: no fault, nothing changes but the list's number.
    assert "was revoked before" in good("site", "revoke", SITE)
    assert revoked(ca) == {first, second}
    refused = subprocess.run(
        ["openssl", "verify", "-crl_check", "-CRLfile", ca / "ca.crl", "-CAfile",
         ca / "ca.crt", cert], check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert "certificate revoked" in refused.stderr
    status, _, err = deploy("site", "renew", SITE)
    assert (status, "all of its certificates are revoked" in err) == (1, True)
    good("site", "issue", SITE)
    assert serial(cert) not in revoked(ca)


def test_a_revoked_key_never_returns(ca, good, deploy, tmp_path):
    key, csr = tmp_path / "pi.key", tmp_path / "pi.csr"
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    openssl("req", "-new", "-key", key, "-subj", "/CN=x", "-out", csr)
    good("site", "issue", SITE, "--csr", csr)
    status, _, err = deploy("site", "issue", "tps-other", "--csr", csr)
    assert (status, f"this key is that of site {SITE}" in err) == (1, True)
    good("site", "revoke", SITE)
    for name in (SITE, "tps-other"):
        status, _, err = deploy("site", "issue", name, "--csr", csr)
        assert (status, "was revoked" in err) == (1, True)


# -- refusals: one line, what to do, nothing changed -----------------------------------
REFUSED = {
    "issued twice": (("site", "issue", SITE), 1, f"jaga-deploy site renew {SITE}"),
    "not a site id": (("site", "issue", "TPS 1"), 1, "use small letters"),
    "a site called as the collector": (("site", "issue", "collector"), 1, "account"),
    "a site called as an operator": (("site", "issue", "operator-ani"), 1, "account"),
    "not an operator's name": (("operator", "issue", "Ani B"), 1, "small letters"),
    "not a host": (("broker", "issue", "a_b"), 1, "neither a host name nor"),
    "longer than the CA": (
        ("site", "issue", "x", "--days", "9999"),
        1,
        "ask for --days",
    ),
    "no days": (("site", "issue", "x", "--days", "0"), 2, "whole number"),
    "renewal of nothing": (("site", "renew", "x"), 1, "issue it a new one"),
    "revocation of nothing": (("site", "revoke", "x"), 1, "jaga-deploy list"),
    "unknown serial": (
        ("site", "revoke", SITE, "--serial", "ab"),
        1,
        "jaga-deploy list",
    ),
    "no request": (("site", "issue", "x", "--csr", "/nowhere"), 1, "can be read"),
    "not a request": (("site", "issue", "x", "--csr", __file__), 1, "openssl req -new"),
    "no passphrase needed": (
        ("site", "issue", "x", "--passphrase-file", __file__),
        1,
        "leave --passphrase-file out",
    ),
    "no broker": (("broker", "config", "/nowhere/x"), 1, "jaga-deploy broker issue"),
    "no command": (("site",), 2, "choose from"),
    "no port": (("broker", "config", "x", "--port", "70000"), 2, "whole number"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_refused_with_one_line_and_nothing_changed(why, ca, deploy, good, capsys):
    good("site", "issue", SITE)
    before = tree(ca)
    words, wanted, advice = REFUSED[why]
    try:
        status, out, err = deploy(*words)
    except SystemExit as usage:
        status, (out, err) = usage.code, capsys.readouterr()
    assert (status, out) == (wanted, "")
    assert advice in err
    assert "Traceback" not in err
    if status == 1:
        assert err.count("\n") == 1
        assert err.startswith("jaga-deploy: ")
    assert tree(ca) == before


def test_a_ca_is_never_overwritten(ca, capsys):
    before = tree(ca)
    assert cli.main(["ca", "init", str(ca)]) == 1
    assert "choose another folder" in capsys.readouterr().err
    assert tree(ca) == before


def test_a_folder_without_a_ca(tmp_path, capsys):
    assert cli.main(["list", "--ca", str(tmp_path)]) == 1
    assert f"jaga-deploy ca init {tmp_path}" in capsys.readouterr().err


def test_another_cas_key_is_noticed(ca, deploy, tmp_path):
    assert cli.main(["ca", "init", str(tmp_path / "other")]) == 0
    shutil.copy(tmp_path / "other/ca.key", ca / "ca.key")
    status, _, err = deploy("site", "issue", SITE)
    assert (status, "does not belong to ca.crt" in err) == (1, True)


def test_a_damaged_ledger_is_no_traceback(ca, deploy):
    (ca / "ledger.json").write_text('{"version": 1, "certif')
    status, _, err = deploy("list")
    assert (status, "from a backup" in err) == (1, True)
    (ca / "ledger.json").write_text('{"version": 2}')
    status, _, err = deploy("list")
    assert (status, "use the newer jaga-deploy" in err) == (1, True)


def test_a_passphrase_locks_the_ca(tmp_path, capsys):
    ca, secret, wrong = (tmp_path / name for name in ("ca", "secret", "wrong"))
    secret.write_text("kuda laut\n")
    wrong.write_text("kuda\n")
    own = ["--ca", str(ca)]
    assert cli.main(["ca", "init", str(ca), "--passphrase-file", str(secret)]) == 0
    assert b"ENCRYPTED" in (ca / "ca.key").read_bytes()
    for more, advice in (
        ([], "give its passphrase with --passphrase-file"),
        (["--passphrase-file", str(wrong)], "wrong passphrase"),
        (["--passphrase-file", "/dev/null"], "is empty"),
    ):
        assert cli.main(["site", "issue", SITE, *own, *more]) == 1
        assert advice in capsys.readouterr().err
    words = ["site", "issue", SITE, *own, "--passphrase-file", str(secret)]
    assert cli.main(words) == 0
    # What signs nothing needs none.
    assert cli.main(["list", *own]) == 0


# -- interrupted -------------------------------------------------------------------
class CutShort(BaseException):
    """As SIGKILL: nothing of the program runs after it."""


STEPS = {
    "issue": (("operator", "issue", "ani"),),
    "renew": (("site", "renew", SITE, "--new-key"),),
    "revoke": (("site", "revoke", SITE),),
}


@pytest.mark.parametrize("what", STEPS)
def test_a_run_cut_short_at_any_moment_is_ended_by_the_next(
    what, ca, good, deploy, tmp_path, monkeypatch
):
    """At each of the writes: the next run finds all of it or nothing, and goes on."""
    (words,) = STEPS[what]
    good("site", "issue", SITE)
    good("broker", "issue", "h")
    keep = tmp_path / "keep"
    shutil.copytree(ca, keep)
    real = folder._write, folder._move
    cuts = 0
    while True:
        shutil.rmtree(ca)
        shutil.copytree(keep, ca)
        left = cuts

        def counted(act):
            def until_cut(*args, **named):
                nonlocal left
                left -= 1
                if left < 0:
                    raise CutShort
                return act(*args, **named)

            return until_cut

        monkeypatch.setattr(folder, "_write", counted(real[0]))
        monkeypatch.setattr(folder, "_move", counted(real[1]))
        try:
            good(*words)
            finished = True
        except CutShort:
            finished = False
        monkeypatch.setattr(folder, "_write", real[0])
        monkeypatch.setattr(folder, "_move", real[1])
        _check_sound(ca, good, deploy, words)
        if finished:
            break
        cuts += 1
    assert cuts > 3  # it was cut at that many places


def _check_sound(ca, good, deploy, words):
    """After a cut: the same again works or is said to be done; all files agree."""
    status, _, err = deploy(*words)
    assert status == 0 or "has a valid certificate already" in err or "valid" in err
    good("site", "issue", "tps-next")
    listed = json.loads(good("list", "--json"))
    issued = {each["serial"]: each for each in listed["certificates"]}
    assert {path.stem for path in (ca / "certificates").iterdir()} == set(issued)
    assert not [*(ca / "staging").glob("*"), *ca.glob(".*")]
    for cert in ca.glob("*s/*/*.crt"):
        if cert.name == "ca.crt" or cert.parent.name == "certificates":
            continue
        key = cert.with_suffix(".key")
        assert openssl("pkey", "-in", key, "-pubout") == public(cert), cert
        assert serial(cert).lower().zfill(40) in issued
    if words[1] == "revoke":
        gone = {s for s, each in issued.items() if each["state"] == "revoked"}
        assert {each.lower().zfill(40) for each in revoked(ca)} == gone
        assert listed["warnings"] == []


def test_a_list_older_than_the_ledger_is_not_given_to_the_broker(
    ca, good, deploy, tmp_path
):
    good("broker", "issue", "h")
    good("site", "issue", SITE)
    old = (ca / "ca.crl").read_bytes()
    good("site", "revoke", SITE)
    (ca / "ca.crl").write_bytes(old)  # cut between ledger and list
    status, _, err = deploy("broker", "config", tmp_path / "broker")
    assert (status, "jaga-deploy crl" in err) == (1, True)
    assert "jaga-deploy crl" in json.loads(good("list", "--json"))["warnings"][0]
    good("crl")
    good("broker", "config", tmp_path / "broker")
    assert json.loads(good("list", "--json"))["warnings"] == []


@pytest.mark.slow
def test_two_runs_at_once_wait_for_each_other(ca, good):
    code = "import sys; from jaga_deploy.cli import main; raise SystemExit(main())"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, "site", "issue", f"tps-{n}", "--ca", str(ca)],
            stdout=subprocess.DEVNULL,
        )
        for n in range(4)
    ]
    assert [process.wait(60) for process in running] == [0] * 4
    listed = json.loads(good("list", "--json"))["certificates"]
    assert sorted(each["name"] for each in listed) == [f"tps-{n}" for n in range(4)]


def test_a_reader_that_goes_is_no_fault(ca):
    ran = subprocess.run(
        [
            *("bash", "-c"),
            'set -o pipefail; "$0" -m jaga_deploy list --ca "$1" | true',
            *(sys.executable, str(ca)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


# -- what is shown -----------------------------------------------------------------
def test_list_shows_states_and_warns_before_an_end(ca, good, deploy, monkeypatch):
    good("broker", "issue", "h")
    good("site", "issue", SITE)
    good("site", "issue", "tps-lost")
    good("site", "revoke", "tps-lost")
    status, out, err = deploy("list")
    assert (status, err) == (0, "")
    assert re.search(rf"^site +{SITE} +valid +20\d\d-\d\d-\d\d ", out, re.MULTILINE)
    assert re.search(r"^site +tps-lost +revoked 20", out, re.MULTILINE)
    now_s = clock.wall_s()
    for days, wanted in (
        (350, {"site"}),
        (401, {"site"}),
        (750, {"site", "broker"}),
        (3600, {"site", "broker", "the CA", "the revocation list"}),
    ):
        monkeypatch.setattr(clock, "wall_s", lambda days=days: now_s + days * DAY_S)
        warnings = json.loads(good("list", "--json"))["warnings"]
        assert {
            re.match("the CA|the revocation list|[a-z]+", w)[0] for w in warnings
        } == (wanted)
        assert not [line for line in warnings if "tps-lost" in line]
        assert all(f"jaga-deploy: {line}" in deploy("list")[2] for line in warnings)


def test_broker_config_is_repeatable_and_names_who_is_in_the_ledger(ca, good, tmp_path):
    out = tmp_path / "broker"
    good("broker", "issue", "h")
    good("collector", "issue")
    good("operator", "issue", "ani")
    good("operator", "issue", "budi")
    good("site", "issue", SITE)
    good("broker", "config", out)
    first = tree(out)
    assert set(first) == {
        *("ca.crt", "ca.crl", "server.crt", "server.key"),
        *("jaga.conf", "jaga.acl", "jaga-broker.conf"),
    }
    good("broker", "config", out)
    assert tree(out) == first
    rights = (out / "jaga.acl").read_text()
    assert re.findall("^user (.*)$", rights, re.MULTILINE) == [
        *("collector", "operator-ani", "operator-budi")
    ]
    good("operator", "revoke", "budi")
    good("site", "revoke", SITE)
    good("broker", "config", out, "--region", "64", "--port", "1234")
    rights = (out / "jaga.acl").read_text()
    assert f"user {SITE}\ntopic deny #" in rights
    assert "user operator-budi\ntopic deny #" in rights
    assert "pattern write jaga/1/64/%u/heartbeat" in rights
    conf = (out / "jaga.conf").read_text()
    assert "listener 1234\n" in conf
    assert "keyfile /etc/jaga-broker/server.key" in conf
    assert "@" not in conf + rights
