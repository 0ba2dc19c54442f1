#!/usr/bin/env bash
# The agent under the systemd of a real, booted Debian (systemd-nspawn): its unit reaches
# READY, keeps its watchdog, comes back after SIGKILL, writes what it must and nothing else.
#
#   scripts/boot-test.sh bookworm|trixie
#
# Needs root, mmdebstrap, systemd-nspawn. The guest has its own network with two uplinks
# whose far ends nobody answers; no traffic leaves it. BOOT_AGENT=FILE runs another program
# as jaga-agent, to try the unit by itself.
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
  nftables iputils-ping ca-certificates

echo "== the agent as on a Pi: /opt/jaga, /etc/jaga, the unit"
cp -r "$REPOSITORY/systemd" "$root/root/systemd"
install -Dm644 "$REPOSITORY/systemd/jaga.sysusers" "$root/usr/lib/sysusers.d/jaga.conf"
install -Dm644 "$REPOSITORY/systemd/jaga-agent.service" \
  "$root/etc/systemd/system/jaga-agent.service"
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
name = "silent"
url = "icmp://192.0.2.1"
role = "reference"

[mqtt]
host = "192.0.2.2"
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
for n in 0 1; do
  ip link add wan$n type veth peer name far$n && ip addr add 198.18.$n.2/24 dev wan$n
  ip link set wan$n up && ip link set far$n up
  ip route add default via 198.18.$n.1 dev wan$n metric 10$n
done
systemd-analyze verify --man=no jaga-agent.service || fail "systemd-analyze verify"
systemctl start jaga-agent || fail "start"
wait_active "$ready_within_s"
first=$(show MainPID)
echo "READY: pid $first, $(systemctl --version | head -n 1), memory $(show MemoryCurrent)"
grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' "/proc/$first/status"
[ "$(awk '/CapEff/ {print $2}' "/proc/$first/status")" = 0000000000003000 ] || fail "capabilities are not NET_ADMIN and NET_RAW"
[ "$(stat -c %U "/proc/$first")" = jaga ] || fail "does not run as jaga"
[ "$(stat -c '%U %a' /var/lib/jaga)" = 'jaga 750' ] || fail "StateDirectory"
inside() { nsenter -t "$first" -m -- "$@"; }
inside sh -c 'echo 2 > /proc/sys/net/ipv4/conf/wan0/rp_filter' || fail "/proc/sys/net is not writable"
inside sh -c 'echo x > /proc/sys/kernel/core_pattern' 2>/dev/null && fail "/proc/sys/kernel is writable"
inside touch /usr/x /etc/x 2>/dev/null && fail "/usr and /etc are writable"
sleep "$watched_s"
[ "$(show MainPID)/$(show NRestarts)" = "$first/0" ] || fail "did not live through two watchdog periods"
echo "WATCHED: $watched_s s with WatchdogUSec $(show WatchdogUSec), last ping $(show WatchdogTimestamp)"
kill -KILL "$first"
for _ in $(seq 100); do [ "$(show MainPID)" != "$first" ] && [ "$(show NRestarts)" = 1 ] && break; sleep 0.1; done
wait_active 30
echo "RESTARTED: pid $(show MainPID) after SIGKILL, NRestarts $(show NRestarts)"
second=$(show MainPID)
kill -STOP "$second"
for _ in $(seq 600); do [ "$(show NRestarts)" = 2 ] && break; sleep 0.1; done
[ "$(show NRestarts)" = 2 ] || fail "the watchdog let a stopped agent be"
wait_active 30
echo "WATCHDOG: a stopped agent was replaced by pid $(show MainPID)"
systemctl stop jaga-agent
[ "$(show Result)/$(show ActiveState)" = success/inactive ] || fail "SIGTERM did not end it cleanly: $(show Result)/$(show ActiveState)"
echo "STOPPED cleanly"
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
    --console=read-only --resolv-conf=off" /dev/null
' bash "$root" "$group" >"$work/console" 2>&1 </dev/null &
guest=$!
wait "$guest" || true
guest=

cat "$root/root/proof" 2>/dev/null || {
  tail -n 30 "$work/console"
  echo "the guest did not boot"
  exit 1
}
[[ $(tail -n 1 "$root/root/proof") == PROVED ]]
