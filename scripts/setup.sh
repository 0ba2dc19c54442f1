#!/usr/bin/env bash
# Makes a fresh checkout able to run: Debian packages, the Python environment in .venv,
# the page built from web/. `make setup` calls it; a second call costs a fraction of a
# second and no network.
#
#   scripts/setup.sh          all of it, for `make demo` and `make test`
#   scripts/setup.sh venv     the Python environment only
#   scripts/setup.sh debian   the Debian packages only
#
# PYTHON=python3.13 chooses the interpreter. Package sources are the user's: whatever
# apt, pip and npm are configured to use.
set -Eeuo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"

VENV=$ROOT/.venv
STAMPS=$ROOT/.stamps
STATIC=server/jaga_server/web/static

PYTHON_MINOR_MIN=11
DEBIAN_PYTHON=(python3 python3-venv)
# What the demo and the tests run for real: kernel tools, broker, DNS, browser; libatomic1
# is for the Node inside the wheel of Playwright, which drives the browser; faketime moves
# one program's wall clock.
DEBIAN_ALL=("${DEBIAN_PYTHON[@]}" iproute2 nftables iputils-ping conntrack curl procps
  openssl mosquitto mosquitto-clients dnsmasq-base chromium libatomic1 faketime
  fonts-dejavu-core)
# The same by command, for systems without dpkg.
COMMANDS_ALL=(ip nft ping conntrack curl sysctl openssl mosquitto mosquitto_sub dnsmasq
  chromium faketime)

die() {
  printf 'set-up: %s\n' "$*" >&2
  exit 1
}

# ---- as root: apt-get ------------------------------------------------------------
# A newcomer asked for a demo, not for a broker on port 1883 at every boot: while
# mosquitto is installed for the first time its start is denied (Debian's policy-rc.d,
# which apt's maintainer scripts ask), afterwards its service is disabled.
POLICY=/usr/sbin/policy-rc.d
POLICY_MARK='# Jaga set-up: do not start mosquitto while it is being installed.'

install_as_root() {
  local options=(-y -q --no-install-recommends -o DPkg::Lock::Timeout=300)
  export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l
  if [[ " $* " == *" mosquitto "* ]]; then
    if [[ ! -e $POLICY ]] || grep -qxF "$POLICY_MARK" "$POLICY"; then
      trap 'rm -f "$POLICY"' EXIT
      # shellcheck disable=SC2016  # $1 is the written script's own
      printf '#!/bin/sh\n%s\ncase $1 in mosquitto*) exit 101 ;; esac\nexit 0\n' \
        "$POLICY_MARK" >"$POLICY"
      chmod 755 "$POLICY"
    fi
  fi
  apt-get "${options[@]}" update
  apt-get "${options[@]}" install "$@"
  if [[ " $* " == *" mosquitto "* ]] && command -v systemctl >/dev/null; then
    systemctl disable mosquitto.service
  fi
}

if [[ ${1-} == --install-as-root ]]; then
  shift
  install_as_root "$@"
  exit
fi

# ---- progress --------------------------------------------------------------------
number=0 total=0 ticker=

stop_ticker() {
  [[ -n $ticker ]] || return 0
  kill "$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  ticker=
}

# step TITLE ADVICE COMMAND…: run COMMAND with its output in a log; on failure show the
# log's end and the advice. The caller stamps what succeeded.
step() {
  local title=$1 advice=$2 started=$SECONDS status=0
  local log=$STAMPS/${title//[^[:alnum:].]/-}.log head
  shift 2
  head=$(printf '[%d/%d] %s …' "$number" "$total" "$title")
  printf '%s' "$head"
  if [[ -t 1 ]]; then
    while sleep 1; do printf '\r%s %d s' "$head" $((SECONDS - started)); done 9>&- &
    ticker=$!
  fi
  # Not `if (…)`: bash would ignore errexit inside. Descriptor 9 is the lock: a daemon
  # started by a tool must not inherit it.
  set +e
  (set -e && "$@") >"$log" 2>&1 </dev/null 9>&-
  status=$?
  set -e
  stop_ticker
  [[ -t 1 ]] && printf '\r%s' "$head"
  if ((status == 0)); then
    printf ' %d s\n' $((SECONDS - started))
    return
  fi
  printf ' failed\n'
  printf -- '---- last lines of %s\n' "$log" >&2
  tail -n 30 "$log" >&2
  printf -- '----\n' >&2
  die "\"$title\" failed (status $status) after $((SECONDS - started)) s. $advice"
}

# ---- stamps: the hash of what a step was made from --------------------------------
hash_of() { # FILE…
  sha256sum -- "$@" | sha256sum | cut -d' ' -f1
}

stamped() { # NAME KEY
  [[ -f $STAMPS/$1 && $(<"$STAMPS/$1") == "$2" ]]
}

stamp() { # NAME KEY
  printf '%s\n' "$2" >"$STAMPS/$1.new"
  mv "$STAMPS/$1.new" "$STAMPS/$1"
}

# ---- Debian packages -------------------------------------------------------------
missing_packages() { # PACKAGE…: those not installed, one a line
  local package state
  declare -A installed=()
  while read -r package state; do
    [[ $state == installed ]] && installed[$package]=1
  done < <(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null)
  for package in "$@"; do
    [[ -n ${installed[$package]-} ]] || printf '%s\n' "$package"
  done
}

debian_packages() { # PACKAGE…
  local missing=() root=() command
  if ! command -v dpkg-query >/dev/null; then
    for command in "${COMMANDS_ALL[@]}"; do
      command -v "$command" >/dev/null || missing+=("$command")
    done
    ((${#missing[@]} == 0)) ||
      die "this is not a Debian system; install these commands by hand: ${missing[*]}"
    return 0
  fi
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]})) || return 0
  if ((EUID != 0)); then
    command -v sudo >/dev/null ||
      die "these Debian packages are missing: ${missing[*]}. Run this as root, or" \
        "install sudo, or have them installed: apt-get install ${missing[*]}"
    printf 'Debian packages to install: %s\n' "${missing[*]}"
    sudo -v || die "sudo refused; have these installed: ${missing[*]}"
    root=(sudo)
  fi
  step "Debian packages" \
    "Mend what apt-get says above (network? sources? disk?), then run the same again." \
    "${root[@]}" "$ROOT/scripts/setup.sh" --install-as-root "${missing[@]}"
  if [[ " ${missing[*]} " == *" mosquitto "* ]] && command -v systemctl >/dev/null; then
    printf '      %s\n' "mosquitto's system service is off: demo and tests start their" \
      "own broker (systemctl enable --now mosquitto turns the service on)."
  fi
}

# ---- the lab's DHCP clients --------------------------------------------------------
# NetworkManager and dhcpcd, which the tests run inside the lab. They are never installed:
# a package's scripts would start them on this machine and hand them its network. They are
# unpacked into .stamps, with what they need and this system lacks; no root is needed.
DHCP_CLIENTS=(network-manager dhcpcd-base)

download_packages() { # DIRECTORY APT-OPTION… -- PACKAGE…
  local directory=$1 options=()
  shift
  while [[ $1 != -- ]]; do
    options+=("$1")
    shift
  done
  shift
  mkdir -p "$directory/partial"
  # --reinstall: also what this system has. A simulation could not be unpacked.
  apt-get install -y --no-install-recommends --reinstall --download-only \
    -o Debug::NoLocking=1 -o APT::Sandbox::User= -o Dir::Cache::archives="$directory" \
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= "${options[@]}" "$@"
}

unpack_dhcp_clients() {
  local work=$STAMPS/dhcp-clients.new package
  rm -rf "$work"
  mkdir -p "$work/root"
  download_packages "$work/archives" -- "${DHCP_CLIENTS[@]}" || {
    # This system's package lists may be old, or none were ever fetched.
    mkdir -p "$work/lists/partial"
    apt-get update -o Debug::NoLocking=1 -o APT::Sandbox::User= \
      -o Dir::State::lists="$work/lists" -o Dir::Cache::pkgcache= \
      -o Dir::Cache::srcpkgcache=
    download_packages "$work/archives" -o Dir::State::lists="$work/lists" \
      -- "${DHCP_CLIENTS[@]}"
  }
  for package in "$work"/archives/*.deb; do
    dpkg-deb -x "$package" "$work/root"
  done
  rm -rf "$STAMPS/dhcp-clients"
  mv "$work/root" "$STAMPS/dhcp-clients"
  rm -rf "$work"
}

# ---- Python ----------------------------------------------------------------------
usable_python() { # COMMAND: runs, is new enough, can make environments with pip
  "$1" -c "import sys, venv, ensurepip
sys.exit(sys.version_info < (3, $PYTHON_MINOR_MIN))" >/dev/null 2>&1
}

choose_python() {
  local candidate
  if [[ -n ${PYTHON-} ]]; then
    usable_python "$PYTHON" ||
      die "PYTHON=$PYTHON does not run, is older than 3.$PYTHON_MINOR_MIN, or lacks the" \
        "modules venv and ensurepip (Debian has them in python3-venv)."
    printf '%s' "$PYTHON"
    return
  fi
  for candidate in python3.13 python3.12 python3.11 python3; do
    if usable_python "$candidate"; then
      printf '%s' "$candidate"
      return
    fi
  done
  return 1
}

version_of() { "$1" -c 'import sys; print(*sys.version_info[:2], sep=".")' 2>/dev/null; }

venv_is_sound() {
  local version
  stamped python "$ROOT" && version=$(version_of "$VENV/bin/python") || return 1
  [[ -z ${PYTHON-} || $version == "$(version_of "$PYTHON")" ]]
}

make_venv() {
  "$1" -m venv --clear "$VENV"
  # --group is understood since 25.1. Without the bound an unreachable index would leave
  # the old pip and still count as success.
  "$VENV/bin/python" -m pip install --upgrade 'pip>=25.1'
}

install_python_packages() {
  "$VENV/bin/python" -m pip install -e '.[server,deploy]' --group dev --group page
}

# ---- the page --------------------------------------------------------------------
# The environment's own Node (a wheel), also for the scripts of npm's packages. Like apt and
# pip it is to trust the certificates that this system trusts (an organisation's proxy).
web_npm() {
  cd "$ROOT/web"
  PATH=$VENV/bin:$PATH NODE_USE_SYSTEM_CA=${NODE_USE_SYSTEM_CA-1} npm "$@"
}

build_page() {
  web_npm run build
  [[ -f $ROOT/$STATIC/index.html ]] || {
    echo "the build left no $STATIC/index.html"
    exit 1
  }
}

web_sources() {
  find web \( -name node_modules -o -name dist \) -prune -o -type f -print0 | sort -z
}

# ---- the steps -------------------------------------------------------------------
begin() { number=$((number + 1)); }

set_up_debian() {
  begin
  debian_packages "${DEBIAN_ALL[@]}"
}

set_up_dhcp_clients() {
  local key
  begin
  command -v apt-get >/dev/null || return 0 # their tests are left out there
  key="1 $(dpkg --print-architecture) $(. /etc/os-release && echo "${VERSION_CODENAME-}")"
  if ! stamped dhcp-clients-unpacked "$key" || [[ ! -d $STAMPS/dhcp-clients ]]; then
    rm -f "$STAMPS/dhcp-clients-unpacked"
    step "DHCP clients of the lab" \
      "Mend what apt-get says above (network? sources? disk?), then run the same again." \
      unpack_dhcp_clients
    stamp dhcp-clients-unpacked "$key"
  fi
}

set_up_python() {
  local python key
  begin
  if ! venv_is_sound; then
    if ! python=$(choose_python); then
      [[ -z ${PYTHON-} ]] || exit 1
      debian_packages "${DEBIAN_PYTHON[@]}"
      python=$(choose_python) ||
        die "no Python ≥ 3.$PYTHON_MINOR_MIN that can make environments was found;" \
          "name one: make setup PYTHON=/path/to/python3"
    fi
    rm -f "$STAMPS/python" "$STAMPS/python-packages"
    step "Python $(version_of "$python") environment" \
      "Mend what is said above (network? disk?), then run the same again." \
      make_venv "$python"
    stamp python "$ROOT"
  fi
  begin
  key=$(hash_of pyproject.toml)
  if ! stamped python-packages "$key"; then
    rm -f "$STAMPS/python-packages"
    step "Python packages" \
      "Mend what pip says above (network? its configuration?), then run the same again." \
      install_python_packages
    stamp python-packages "$key"
  fi
}

set_up_page() {
  local packages_key page_key sources
  begin
  [[ -f web/package-lock.json ]] ||
    die "web/package-lock.json is missing: this checkout is not whole; clone it again."
  packages_key=$(hash_of web/package.json web/package-lock.json)
  if ! stamped page-packages "$packages_key" || [[ ! -d web/node_modules ]]; then
    rm -f "$STAMPS/page-packages" "$STAMPS/page"
    step "Page's packages" \
      "Mend what npm says above (network? its configuration?), then run the same again." \
      web_npm ci --no-audit --no-fund
    stamp page-packages "$packages_key"
  fi
  begin
  mapfile -d '' sources < <(web_sources)
  page_key=$(hash_of "${sources[@]}")
  if ! stamped page "$page_key" || [[ ! -f $STATIC/index.html ]]; then
    rm -f "$STAMPS/page"
    step "Page" \
      "The page's sources in web/ do not build; see above, or git status web/." \
      build_page
    stamp page "$page_key"
  fi
}

# Under sudo only apt-get needs root. Everything in the checkout is made by the user whose
# it is, or their next `make check` would meet files it may not write.
if [[ ${1-} != debian ]] && ((EUID == 0)) &&
  [[ $("$ROOT/scripts/as-user.sh" id -u) != 0 ]]; then
  if [[ ${1-all} == all ]]; then
    status=0
    "$ROOT/scripts/setup.sh" debian || status=$?
    chown -R --reference="$ROOT" "$STAMPS"
    ((status == 0)) || exit "$status"
  fi
  exec "$ROOT/scripts/as-user.sh" "$ROOT/scripts/setup.sh" "$@"
fi

mkdir -p "$STAMPS"
trap stop_ticker EXIT
# One set-up at a time: `make -j test demo`, or two terminals.
exec 9>"$STAMPS/lock"
flock -n 9 || {
  echo "Waiting for another set-up in $ROOT …"
  flock 9
}

case ${1-all} in
  all)
    total=6
    set_up_debian
    set_up_dhcp_clients
    set_up_python
    set_up_page
    ;;
  venv)
    total=2
    set_up_python
    ;;
  debian)
    total=6
    set_up_debian
    ;;
  *) die "unknown part \"$1\": all (default), venv or debian" ;;
esac
