# Sourced by fresh-root.sh and boot-test.sh: a fresh Debian in a directory, with this
# host's ways to packages (apt sources and settings, pip, npm, certificates, proxies) and
# nothing else of this host. Needs root and mmdebstrap.
# shellcheck shell=bash

need_root_and() { # COMMAND…
  local command
  ((EUID == 0)) || {
    echo "$(basename "$0"): run this as root" >&2
    exit 1
  }
  for command in "$@"; do
    command -v "$command" >/dev/null || {
      echo "$(basename "$0"): $command is missing: apt-get install $command" >&2
      exit 1
    }
  done
}

# host_sources DIST: this host's Debian sources as deb822, moved to DIST. Others' (their
# own Signed-By, other suites) are left out: they may not have DIST.
host_sources() {
  local codename
  codename=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")
  {
    shopt -s nullglob
    local file
    for file in /etc/apt/sources.list.d/*.sources; do
      sed '/^[[:space:]]*#/d' "$file"
      echo
    done
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
      [[ -f $file ]] || continue
      # deb [options] URI suite component…
      awk '$1 == "deb" {
        i = 2
        if ($i ~ /^\[/) { while ($i !~ /\]$/) i++; i++ }
        printf "Types: deb\nURIs: %s\nSuites: %s\nComponents:", $i, $(i + 1)
        for (j = i + 2; j <= NF; j++) printf " %s", $j
        printf "\n\n"
      }' "$file"
    done
  } | awk -v RS= -v ORS='\n\n' -v from="$codename" -v to="$1" '
    /Enabled:[ \t]*no/ { next }
    /Signed-By:/ && !/debian-archive-keyring/ { next }
    match($0, "Suites:[^\n]*" from) {
      gsub("(^|[^a-z])" from, "&\001"); gsub(from "\001", to); print
    }'
}

# make_root DIST DIRECTORY PACKAGE…
make_root() {
  local dist=$1 directory=$2 settings sources packages
  shift 2
  packages=$(IFS=,; printf '%s' "$*")
  settings=$(mktemp) sources=$(mktemp --suffix=.sources)
  # Proxies, retries, date checks: how this host reaches its mirror.
  apt-config dump Acquire | grep '::' >"$settings"
  host_sources "$dist" >"$sources"
  [[ -s $sources ]] || {
    echo "no Debian source for this host's release found in /etc/apt" >&2
    return 1
  }
  mmdebstrap --quiet --mode=root --variant=minbase --format=directory \
    --aptopt="$settings" --aptopt='APT::Install-Recommends "false"' \
    --include="$packages" "$dist" "$directory" "$sources"
  cp "$settings" "$directory/etc/apt/apt.conf.d/90host"
  rm -f "$settings" "$sources"
  give_host_settings "$directory"
}

# give_host_settings DIRECTORY: what pip, npm and TLS need to reach packages as here.
give_host_settings() {
  local root=$1 path
  for path in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/xdg/pip /etc/npmrc \
    /usr/local/share/ca-certificates /etc/ssl/certs/ca-certificates.crt; do
    [[ -e $path ]] || continue
    rm -rf "${root:?}$path"
    mkdir -p "$root$(dirname "$path")"
    cp -rL "$path" "$root$path"
  done
  for path in .npmrc .pip .config/pip; do
    [[ -e $HOME/$path ]] || continue
    mkdir -p "$root/root/$(dirname "$path")"
    cp -rL "$HOME/$path" "$root/root/$path"
  done
}

# host_environment: NAME=VALUE, one a line, of the variables package clients heed.
host_environment() {
  env | grep -iE '^(pip_|npm_config_|https?_proxy=|no_proxy=|ssl_cert_|requests_ca_bundle=|node_extra_ca_certs=)' || true
}
