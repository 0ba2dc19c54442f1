"""The site as a plan: names, addresses and the text that builds each namespace.

Pure: it returns `ip` lines and nft scripts, and touches nothing. The Pi is left as a
DHCP client leaves it (twins with tables of their own, wan2 in main); policy rules,
NAT, forwarding and rp_filter on the Pi are the agent's work and not done here.

    phone ── lan0 Pi wan0..2 ── modem (masquerade) ══ TUN relay ══ carrier (CGNAT) ── internet

Addresses of the internet are those set aside for documentation (RFC 5737); carriers
use the shared address space (RFC 6598).
"""

from __future__ import annotations

from dataclasses import dataclass

PHONE = "192.168.77.20"
PI = "192.168.77.1"
PING_TARGETS = ("192.0.2.1", "198.51.100.1", "203.0.113.1")
SIREKAP = "203.0.113.10"
SIREKAP_NAME = "sirekap-web.kpu.go.id"
SIREKAP_PORT = 443
SINK_PORT = 8443
DNS = "203.0.113.53"
BROKER = "203.0.113.80"
BROKER_PORT = 1883
NAMES = {
    SIREKAP_NAME: SIREKAP,
    "kpu.go.id": SIREKAP,
    "connectivity.lab.invalid": SIREKAP,
    "collector.kutimkab.go.id": BROKER,
}
"""What the lab's DNS answers; nothing else exists."""
PORTAL = "203.0.113.90"
"""Where a carrier sends the HTTP of a customer whose quota is used up."""

HILINK_MAC = "0c:5b:8f:27:9a:64"
"""What HiLink sticks give their host, all of them the same."""


@dataclass(frozen=True, slots=True)
class UplinkPlan:
    """One provider's way out, from the Pi's device to its public address."""

    name: str
    index: int
    address: str
    gateway: str
    network: str
    public: str
    """The carrier NAT's address: what a server sees."""
    table: str
    """Routing table that the "DHCP client" on the Pi puts the routes into."""
    metric: int | None
    mac: str
    one_way_ms: float
    jitter_ms: float

    @property
    def device(self) -> str:
        """Device on the Pi."""
        return f"wan{self.index}"

    @property
    def modem(self) -> str:
        """Role of the modem's namespace."""
        return f"modem{self.index + 1}"

    @property
    def tun(self) -> str:
        """Device of the carrier link on the carrier's side; `car0` on the modem's."""
        return f"cust{self.index}"

    @property
    def modem_ip(self) -> str:
        """The modem's address on the carrier link."""
        return f"100.64.{self.index}.2"

    @property
    def carrier_ip(self) -> str:
        """The carrier's address on the carrier link."""
        return f"100.64.{self.index}.1"


def hilink(
    name: str,
    index: int,
    *,
    public: str,
    table: str,
    one_way_ms: float,
    jitter_ms: float,
) -> UplinkPlan:
    """Return one of the twins: all of its addresses are the other's too."""
    return UplinkPlan(
        name=name,
        index=index,
        address="192.168.8.100",
        gateway="192.168.8.1",
        network="192.168.8.0/24",
        public=public,
        table=table,
        metric=None,
        mac=HILINK_MAC,
        one_way_ms=one_way_ms,
        jitter_ms=jitter_ms,
    )


UPLINKS = (
    hilink(
        "telkomsel", 0, public="192.0.2.101", table="201", one_way_ms=10, jitter_ms=1.5
    ),
    hilink(
        "indosat", 1, public="198.51.100.101", table="202", one_way_ms=14, jitter_ms=1.5
    ),
    UplinkPlan(
        name="telkom-fibre",
        index=2,
        address="192.168.18.10",
        gateway="192.168.18.1",
        network="192.168.18.0/24",
        public="203.0.113.101",
        table="main",
        metric=700,
        mac="b8:27:eb:18:00:10",
        one_way_ms=6,
        jitter_ms=0.2,
    ),
)

PROVIDERS = {uplink.public: uplink.name for uplink in UPLINKS}
"""Which provider carried, by the client address that a server saw."""

NO_IPV6 = {
    "net.ipv6.conf.all.disable_ipv6": 1,
    "net.ipv6.conf.default.disable_ipv6": 1,
}
FORWARD = NO_IPV6 | {"net.ipv4.ip_forward": 1}
SYSCTLS: dict[str, dict[str, int]] = {
    "phone": NO_IPV6,
    "pi": NO_IPV6,
    # loose=0: a mid-stream segment is `invalid` and makes no new entry.
    "carrier": FORWARD | {"net.netfilter.nf_conntrack_tcp_loose": 0},
    "internet": NO_IPV6,
}


def phone_lines() -> list[str]:
    """Return the phone's addresses; it knows one gateway, the Pi."""
    return [
        "link set lo up",
        f"address add {PHONE}/24 dev eth0",
        "link set eth0 up",
        f"route add default via {PI}",
    ]


def pi_lines() -> list[str]:
    """Return the Pi's LAN side; `lease_lines` adds each uplink's."""
    return ["link set lo up", f"address add {PI}/24 dev lan0", "link set lan0 up"]


def plug_lines(uplink: UplinkPlan, modem_namespace: str) -> list[str]:
    """Return what makes the Pi's device, wired to the modem's `lan0`."""
    return [
        (
            f"link add {uplink.device} address {uplink.mac} type veth "
            f"peer name lan0 netns {modem_namespace}"
        )
    ]


def lease_lines(uplink: UplinkPlan) -> list[str]:
    """Return what a DHCP client does on the Pi with a fresh lease; repeatable."""
    table = f"table {uplink.table} proto dhcp src {uplink.address}" + (
        f" metric {uplink.metric}" if uplink.metric is not None else ""
    )
    device = uplink.device
    return [
        f"link set {device} up",
        f"address replace {uplink.address}/24 dev {device} noprefixroute",
        f"route replace {uplink.network} dev {device} scope link {table}",
        f"route replace default via {uplink.gateway} dev {device} {table}",
    ]


def modem_lan_lines(uplink: UplinkPlan) -> list[str]:
    """Return the modem's side towards the Pi."""
    return [f"address add {uplink.gateway}/24 dev lan0", "link set lan0 up"]


def modem_wan_lines(uplink: UplinkPlan) -> list[str]:
    """Return the modem's side towards its carrier; `car0` is the relay's TUN."""
    return [
        f"address add {uplink.modem_ip} peer {uplink.carrier_ip} dev car0",
        "link set car0 txqueuelen 1000 up",
        "route add default dev car0",
    ]


def modem_nft() -> str:
    """Return a modem's NAT."""
    return """
table ip modem {
 chain postrouting {
  type nat hook postrouting priority srcnat; policy accept;
  oifname "car0" masquerade
 }
}
"""


def carrier_lines(uplinks: tuple[UplinkPlan, ...]) -> list[str]:
    """Return the carriers' core: one link to the internet, a public address each."""
    return [
        "link set lo up",
        "address add 100.64.255.1/30 dev core0",
        "link set core0 up",
        "route add default via 100.64.255.2",
        *(f"address add {uplink.public}/32 dev lo" for uplink in uplinks),
    ]


def carrier_wan_lines(uplink: UplinkPlan) -> list[str]:
    """Return the carrier's side of one customer's link."""
    return [
        f"address add {uplink.carrier_ip} peer {uplink.modem_ip} dev {uplink.tun}",
        f"link set {uplink.tun} txqueuelen 1000 up",
    ]


def carrier_nft(uplinks: tuple[UplinkPlan, ...]) -> str:
    """Return the carrier NAT.

    Out-of-state TCP is dropped without a word in both directions, as carriers do.
    Faults are elements of the sets: `used_up` (ping and DNS pass, HTTP goes to the
    portal, other TCP connects and is reset at the client's first data, as a box that
    waits for the ClientHello does), `dns_dead`, and `cut` (the carrier itself answers,
    nothing goes beyond it).
    """
    snat = "\n  ".join(
        f'iifname "{uplink.tun}" oifname "core0" snat to {uplink.public}'
        for uplink in uplinks
    )
    return f"""
table ip cgnat {{
 set used_up {{ type ifname; }}
 set dns_dead {{ type ifname; }}
 set cut {{ type ifname; }}
 chain prerouting {{
  type nat hook prerouting priority dstnat; policy accept;
  iifname @used_up tcp dport 80 dnat to {PORTAL}
 }}
 chain forward {{
  type filter hook forward priority filter; policy accept;
  iifname @dns_dead meta l4proto {{ tcp, udp }} th dport 53 drop
  iifname @cut drop
  oifname @cut drop
  iifname @used_up tcp dport != 80 tcp flags & psh == psh reject with tcp reset
  iifname @used_up tcp dport != 80 ip length > 120 reject with tcp reset
  ct state new tcp flags & (syn | rst | fin) == 0 drop
  ct state invalid drop
 }}
 chain input {{
  type filter hook input priority filter; policy accept;
  iifname "core0" meta l4proto {{ tcp, udp }} drop
 }}
 chain postrouting {{
  type nat hook postrouting priority srcnat; policy accept;
  {snat}
 }}
}}
"""


def internet_lines(uplinks: tuple[UplinkPlan, ...]) -> list[str]:
    """Return the internet: every service's address, and the way back."""
    services = (*PING_TARGETS, SIREKAP, DNS, BROKER, PORTAL)
    return [
        "link set lo up",
        "address add 100.64.255.2/30 dev core0",
        "link set core0 up",
        *(f"address add {address}/32 dev lo" for address in services),
        *(f"route add {uplink.public} via 100.64.255.1" for uplink in uplinks),
    ]


def internet_nft() -> str:
    """Return the set of addresses that are dead for everybody."""
    return """
table ip internet {
 set dead { type ipv4_addr; }
 chain input {
  type filter hook input priority filter; policy accept;
  ip daddr @dead drop
 }
}
"""


HANG_NFT = """
table netdev modem_hang {
 chain lan {
  type filter hook ingress device "lan0" priority -500; policy drop;
 }
}
"""
"""A modem that hangs: it has carrier and answers nothing, not even ARP."""
