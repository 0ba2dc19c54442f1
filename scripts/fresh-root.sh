#!/usr/bin/env bash
# The newcomer's first hour, by machine: a fresh Debian that has only git and make, a clean
# clone of the committed state, and the README's commands, timed.
#
#   scripts/fresh-root.sh bookworm|trixie [COMMAND…]
#
# Without commands: make setup (twice), demo ARGS=--once, check, test. Needs root and
# mmdebstrap. KEEP=1 keeps the root for a look. Mounts live in a namespace of their own and
# end with it; the directory is removed however this ends.
set -Eeuo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPOSITORY=$(cd "$HERE/.." && pwd)
# shellcheck source=scripts/debian-root.sh
. "$HERE/debian-root.sh"

# ---- inside the namespace --------------------------------------------------------
if [[ ${1-} == --inside ]]; then
  root=$2
  shift 2
  mount --make-rprivate /
  mount --bind "$root" "$root"
  mount -t proc proc "$root/proc"
  mount -t sysfs sysfs "$root/sys"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs -o mode=755 tmpfs "$root/run"
  mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
  mapfile -t environment < <(host_environment)
  exec chroot "$root" /usr/bin/env -i HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    "${environment[@]}" /bin/sh -c "cd /srv/jaga/main && $1"
fi

# ---- outside ---------------------------------------------------------------------
dist=${1-}
case $dist in
  bookworm | trixie) shift ;;
  *)
    echo "usage: fresh-root.sh bookworm|trixie [COMMAND…]" >&2
    exit 2
    ;;
esac
need_root_and mmdebstrap git unshare
(($#)) || set -- 'make setup' 'make setup' 'make demo ARGS=--once' \
  'make check' 'make test'

work=$(mktemp -d --tmpdir "jaga-fresh-$dist-XXXXXX")
root=$work/root
finish() {
  if [[ -n ${KEEP-} ]]; then
    echo "kept: $root"
  else
    rm -rf --one-file-system "$work"
  fi
}
trap finish EXIT
trap 'exit 130' INT TERM

report=()
timed() { # LABEL COMMAND…
  local label=$1 started=$SECONDS status=0
  shift
  printf '\n==== %s: %s\n' "$dist" "$label"
  "$@" || status=$?
  report+=("$(printf '%6d s  %-30s %s' $((SECONDS - started)) "$label" \
    "$( ((status == 0)) && echo ok || echo "FAILED ($status)")")")
  return "$status"
}
print_report() {
  printf '\n==== %s, fresh root\n' "$dist"
  printf '%s\n' "${report[@]}"
}
trap 'print_report; finish' EXIT

timed 'fresh Debian with git and make' make_root "$dist" "$root" git make ca-certificates
mkdir -p "$root/srv/jaga/shared"
git clone --quiet "$REPOSITORY" "$root/srv/jaga/main"
for data in "$REPOSITORY/../shared/data" "$(git -C "$REPOSITORY" rev-parse --path-format=absolute --git-common-dir)/../../shared/data"; do
  [[ -d $data ]] || continue
  cp -r "$data" "$root/srv/jaga/shared/data"
  break
done
chown -R 0:0 "$root/srv/jaga"

for command in "$@"; do
  timed "$command" unshare --mount --pid --fork --kill-child \
    "${BASH_SOURCE[0]}" --inside "$root" "$command"
done
