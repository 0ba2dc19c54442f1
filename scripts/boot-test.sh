#!/usr/bin/env bash
# The agent under the systemd of a real, booted Debian (systemd-nspawn): its unit reaches
# READY, works behind its fences (routes, nftables, sysctls, ICMP probes, a failover), keeps
# its watchdog, comes back after SIGKILL while the traffic flows on, and stops cleanly.
#
#   scripts/boot-test.sh bookworm|trixie
#
# Needs root, mmdebstrap, systemd-nspawn. The guest has its own network: two uplinks to an
# "internet" that is a network namespace inside it; no traffic leaves it. LOG=FILE keeps
# what the guest said. BOOT_AGENT=FILE runs another program as jaga-agent.
set -Eeuo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPOSITORY=$(cd "$HERE/.." && pwd)
# shellcheck source=scripts/debian-root.sh
. "$HERE/debian-root.sh"

READY_WITHIN_S=60
# Two watchdog periods and a little more.
WATCHED_S=${WATCHED_S:-65}

dist=${1-}
case $dist in
  bookworm | trixie) ;;
  *)
    echo "usage: boot-test.sh bookworm|trixie" >&2
    exit 2
    ;;
esac
need_root_and mmdebstrap systemd-nspawn unshare script

work=$(mktemp -d --tmpdir "jaga-boot-$dist-XXXXXX")
root=$work/root
group=${work##*/}
guest=
finish() {
  if [[ -n $guest ]]; then
    kill "$guest" 2>/dev/null || true
    wait "$guest" 2>/dev/null || true
  fi
  # The guest's control groups outlive its mounts.
  # shellcheck disable=SC2016  # $1 is the inner shell's
  unshare --mount bash -c '
    mount --make-rprivate / && mount -t cgroup2 none /mnt
    [[ ! -d /mnt/$1 ]] || find "/mnt/$1" -depth -type d -exec rmdir {} +
  ' bash "$group" || true
  if [[ -n ${KEEP-} ]]; then
    echo "kept: $work"
  else
    rm -rf --one-file-system "$work"
  fi
}
trap finish EXIT
trap 'exit 130' INT TERM

echo "== a $dist with systemd"
make_root "$dist" "$root" systemd systemd-sysv dbus python3 python3-venv iproute2 \
  nftables iputils-ping ca-certificates dnsmasq-base dhcpcd-base

echo "== the agent as on a Pi: /opt/jaga, /etc/jaga, the unit"
cp -r "$REPOSITORY/systemd" "$root/root/systemd"
install -Dm644 "$REPOSITORY/systemd/jaga.sysusers" "$root/usr/lib/sysusers.d/jaga.conf"
install -Dm644 "$REPOSITORY/systemd/jaga-agent.service" \
  "$root/etc/systemd/system/jaga-agent.service"
install -Dm644 "$REPOSITORY/systemd/jaga-dns.service" \
  "$root/etc/systemd/system/jaga-dns.service"
install -Dm644 "$REPOSITORY/deploy/dnsmasq/jaga-dns.conf" "$root/etc/jaga/dnsmasq.conf"
mkdir -p "$root/etc/jaga/dnsmasq.d"
cp "$REPOSITORY/deploy/dnsmasq/lan-dhcp.conf" "$root/root/"
echo 'address=/name.test/192.0.2.77' >"$root/etc/jaga/dnsmasq.d/test.conf"
chroot "$root" systemd-sysusers
if [[ -n ${BOOT_AGENT-} ]]; then
  install -Dm755 "$BOOT_AGENT" "$root/opt/jaga/bin/jaga-agent"
else
  mkdir "$root/root/src"
  git -C "$REPOSITORY" archive HEAD | tar -x -C "$root/root/src"
  mapfile -t environment < <(host_environment)
  chroot "$root" /usr/bin/env "${environment[@]}" /bin/sh -c \
    'python3 -m venv /opt/jaga && /opt/jaga/bin/pip install -q /root/src' ||
    { echo "the agent could not be installed in the guest"; exit 1; }
fi
mkdir -p "$root/etc/jaga"
cat >"$root/etc/jaga/agent.toml" <<'TOML'
[site]
id = "tps-boot-test"
region = "6408"

[[uplink]]
name = "one"
device = "wan0"
preference = 1

[[uplink]]
name = "two"
device = "wan1"
preference = 2

[[target]]
name = "target-1"
url = "icmp://192.0.2.1"

[[target]]
name = "target-2"
url = "icmp://198.51.100.1"

[[target]]
name = "target-3"
url = "icmp://203.0.113.1"

# Nobody listens there: the site must be guarded without its broker too.
[mqtt]
host = "192.0.2.1"
port = 1883
tls = false
TOML

# What the guest proves by itself, once booted; it powers itself off at the end.
cat >"$root/root/prove" <<GUEST
#!/bin/bash
set -u
ready_within_s=$READY_WITHIN_S
watched_s=$WATCHED_S
GUEST
cat >>"$root/root/prove" <<'GUEST'
show() { systemctl show -P "$1" jaga-agent; }
fail() { echo "FAILED: $*"; systemctl status -l --no-pager jaga-agent; journalctl -b --no-pager -o cat -u jaga-agent | tail -40; exit 1; }
wait_active() { # SECONDS: READY was said (Type=notify)
  for _ in $(seq $(($1 * 10))); do
    [ "$(show ActiveState)/$(show SubState)" = active/running ] && return
    sleep 0.1
  done
  fail "not READY within $1 s"
}
jaga=/opt/jaga/bin/jaga-agent
ask() { # PYTHON: of what `status --json` answers, as `s`
  "$jaga" status --json | python3 -c "import json, sys; s = json.load(sys.stdin); print($1)"
}
wait_for() { # SECONDS WHAT COMMAND…
  local seconds=$1 what=$2
  shift 2
  for _ in $(seq $((seconds * 10))); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.1
  done
  fail "$what: not within $seconds s"
}
carries() { [ "$(ask "s['active']")" = "$1" ]; }
is_up() { [ "$(ask "[u['health'] for u in s['uplinks'] if u['name'] == '$1'][0]")" = up ]; }
reaches() { ping -c 1 -W 1 192.0.2.1; }
systemctl_is() { [ "$(show "$1")" "$2" "$3" ]; }

# ---- a site: two uplinks whose far ends are an internet of its own
ip netns add internet
ip -n internet link set lo up
for target in 192.0.2.1 198.51.100.1 203.0.113.1; do
  ip -n internet address add $target/32 dev lo
done
for n in 0 1; do
  ip link add wan$n type veth peer name far$n netns internet
  ip -n internet address add 198.18.$n.1/24 dev far$n
  ip -n internet link set far$n up
  ip address add 198.18.$n.2/24 dev wan$n
  ip link set wan$n up
  ip route add default via 198.18.$n.1 dev wan$n metric 10$n
done

systemd-analyze verify --man=no jaga-agent.service || fail "systemd-analyze verify"
runuser -u jaga -- "$jaga" check-config || fail "check-config as jaga"
systemctl start jaga-agent || fail "start"
wait_active "$ready_within_s"
first=$(show MainPID)
echo "READY: pid of jaga-agent $first, $(systemctl --version | head -n 1)"

# ---- its fences
grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' "/proc/$first/status"
[ "$(awk '/CapEff/ {print $2}' "/proc/$first/status")" = 0000000000003000 ] || fail "capabilities are not NET_ADMIN and NET_RAW"
[ "$(stat -c %U "/proc/$first")" = jaga ] || fail "does not run as jaga"
[ "$(stat -c '%U %a' /var/lib/jaga)" = 'jaga 750' ] || fail "StateDirectory"
inside() { nsenter -t "$first" -m -- "$@"; }
inside sh -c 'echo x > /proc/sys/kernel/core_pattern' 2>/dev/null && fail "/proc/sys/kernel is writable"
inside touch /usr/x /etc/x 2>/dev/null && fail "/usr and /etc are writable"
systemd-analyze security --no-pager jaga-agent.service | tail -n 1 | sed 's/[^ -~]*//g; s/^ *//'

# ---- its work
wait_for 15 "uplink one probed and active" carries one
wait_for 15 "uplink two probed" is_up two
# The unit lets it ask the kernel who keeps the clock, and not set it.
journalctl -b --no-pager -o cat -u jaga-agent | grep -q "does not say whether NTP" && fail "adjtimex is refused"
echo "CLOCK: $(ask "s['clock']['source']")"
echo "PROBES: $(ask "', '.join('%s %s, RTT %.2f ms' % (u['name'], u['health'], u['rtt_ms']) for u in s['uplinks'])")"
[ "$(ask "s['troubles']")" = "[]" ] || fail "troubles: $(ask "s['troubles']")"
echo "ROUTE: $(ip route show table 100 | head -n 1)"
[ "$(ip route show table 100 | grep -c '^default via 198.18.0.1 dev wan0 .*metric 1 ')" = 1 ] || fail "table 100: $(ip route show table 100)"
[ "$(ip rule | grep -cE '^(1000|1101|1102|1201|1202|2000):')" = 6 ] || fail "rules: $(ip rule)"
nft list table inet jaga | grep -q masquerade || fail "nftables: $(nft list ruleset)"
echo "NFTABLES: table inet jaga, $(nft list table inet jaga | grep -c 'chain ') chains"
for n in 0 1; do
  [ "$(cat /proc/sys/net/ipv4/conf/wan$n/rp_filter)" = 2 ] || fail "rp_filter of wan$n"
done
echo "SYSCTLS: rp_filter of wan0 and wan1 is 2"
ip netns exec internet nft 'add table netdev silence; add chain netdev silence far0 { type filter hook ingress device "far0" priority -500; policy drop; }' || fail "nft in the internet"
wait_for 10 "failover to two when one falls silent" carries two
reaches >/dev/null || fail "no traffic after the failover"
echo "MOVED: $(ask "s['decisions'][0]['rule'] + ': ' + s['decisions'][0]['reason']")"

# ---- the LAN's DNS beside it
ip netns add phone
ip link add lan0 type veth peer name eth0 netns phone
ip address add 192.168.77.1/24 dev lan0
ip link set lan0 up
ip -n phone address add 192.168.77.20/24 dev eth0
ip -n phone link set eth0 up
answers() { # a phone's lookup
  ip netns exec phone python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
s.connect(("192.168.77.1", 53))
s.send(b"\0\7\1\0\0\1" + bytes(6) + b"\4name\4test\0\0\1\0\1")
assert socket.inet_ntoa(s.recv(512)[-4:]) == "192.0.2.77"'
}
systemctl start jaga-dns || fail "start of jaga-dns"
wait_for 10 "an answer to the LAN" answers
dns=$(systemctl show -P MainPID jaga-dns)
[ "$(cat /run/jaga-dns/pid)" = "$dns" ] || fail "pid file of jaga-dns"
[ "$(stat -c %U "/proc/$dns") $(awk '/CapEff/ {print $2}' "/proc/$dns/status")" = "jaga 0000000000000400" ] || fail "jaga-dns is not jaga with NET_BIND_SERVICE alone"
runuser -u jaga -- sh -c 'echo "server=192.0.2.1@wan0" >/run/jaga-dns/servers.new && mv /run/jaga-dns/servers.new /run/jaga-dns/servers && kill -HUP "$(cat /run/jaga-dns/pid)"' || fail "jaga may not tell its own dnsmasq"
told() { journalctl -b -o cat -u jaga-dns | grep -q 'using nameserver 192.0.2.1#53(via wan0)'; }
wait_for 5 "dnsmasq reads its list again" told
inside touch /run/jaga-dns/probe || fail "the agent may not write the list"
rm /run/jaga-dns/probe
echo "DNS: jaga-dns answers the LAN as $(stat -c %U "/proc/$dns"), is told by SIGHUP"
cp /root/lan-dhcp.conf /etc/jaga/dnsmasq.d/
install -Dm644 /root/systemd/jaga-dns-dhcp.conf /etc/systemd/system/jaga-dns.service.d/dhcp.conf
systemctl daemon-reload
systemctl restart jaga-dns || fail "restart of jaga-dns with DHCP"
wait_for 10 "an answer to the LAN" answers
ip -n phone address flush dev eth0
ip netns exec phone dhcpcd --oneshot --ipv4only --timeout 20 eth0 || fail "no lease for a phone: $(journalctl -b -o cat -u jaga-dns | tail -20)"
ip -n phone route | grep -q '^default via 192.168.77.1 ' || fail "a phone's routes: $(ip -n phone route)"
answers || fail "no DNS for a phone with a lease"
echo "DHCP: a phone has $(ip -n phone -o -4 address show dev eth0 | awk '{print $4}')"

# ---- its watchdog, its deaths
sleep "$watched_s"
[ "$(show MainPID)/$(show NRestarts)" = "$first/0" ] || fail "did not live through two watchdog periods"
echo "WATCHED: $watched_s s with WatchdogUSec $(show WatchdogUSec); $(awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$first/status") MiB resident"
kill -KILL "$first"
wait_for 5 "the death" systemctl_is MainPID != "$first"
reaches >/dev/null || fail "the agent's death stopped the traffic"
wait_for 10 "a restart after SIGKILL" systemctl_is NRestarts = 1
wait_active 30
wait_for 15 "the same uplink after the restart" carries two
echo "RESTARTED: pid $(show MainPID) after SIGKILL, NRestarts $(show NRestarts); traffic flowed meanwhile"
second=$(show MainPID)
kill -STOP "$second"
wait_for 60 "the watchdog's word about a stopped agent" systemctl_is NRestarts = 2
wait_active 30
echo "WATCHDOG: a stopped agent was replaced by pid $(show MainPID)"
began=$(date +%s)
systemctl stop jaga-agent
[ "$(show Result)/$(show ActiveState)" = success/inactive ] || fail "SIGTERM did not end it cleanly: $(show Result)/$(show ActiveState)"
reaches >/dev/null || fail "the stop stopped the traffic"
answers || fail "the stop stopped the DNS"
echo "STOPPED cleanly in $(($(date +%s) - began)) s; traffic flows on"
journalctl -b --no-pager -o cat -u jaga-agent _COMM=jaga-agent | grep -iE 'traceback|error' && fail "errors in its log"
echo PROVED
GUEST
chmod +x "$root/root/prove"
cat >"$root/etc/systemd/system/prove.service" <<'UNIT'
[Unit]
After=multi-user.target
SuccessAction=poweroff
FailureAction=poweroff
[Service]
Type=oneshot
TimeoutStartSec=400
ExecStart=/bin/sh -c '/root/prove >/root/proof 2>&1'
[Install]
WantedBy=default.target
UNIT
ln -s /etc/systemd/system/prove.service \
  "$root/etc/systemd/system/multi-user.target.wants/prove.service"
# No first-boot questions, no services that the proof does not need.
tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
ln -sf /dev/null "$root/etc/systemd/system/systemd-networkd.service"

echo "== boot"
# A private mount namespace with a cgroup v2 of its own: some hosts still have v1.
# shellcheck disable=SC2016  # its variables are the inner shell's
unshare --mount --kill-child --fork bash -euc '
  mount --make-rprivate /
  umount -R /sys/fs/cgroup 2>/dev/null || umount -l /sys/fs/cgroup
  mount -t cgroup2 none /sys/fs/cgroup
  mkdir "/sys/fs/cgroup/$2"
  echo $$ >"/sys/fs/cgroup/$2/cgroup.procs"
  exec script -qec "systemd-nspawn --quiet --register=no --keep-unit --link-journal=no \
    --boot --directory=\"$1\" --machine=jaga-boot-$$ --private-network \
    --console=read-only --resolv-conf=off \
    --system-call-filter=\"adjtimex clock_adjtime\"" /dev/null
' bash "$root" "$group" >"$work/console" 2>&1 </dev/null &
guest=$!
wait "$guest" || true
guest=

cat "$root/root/proof" 2>/dev/null || {
  tail -n 30 "$work/console"
  echo "the guest did not boot"
  exit 1
}
[[ -z ${LOG-} ]] || cp "$root/root/proof" "$LOG"
[[ $(tail -n 1 "$root/root/proof") == PROVED ]]
