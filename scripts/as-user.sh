#!/bin/sh
# Runs a command as the user who called sudo, in that user's own checkout, so that what the
# command makes stays theirs; in any other case as whoever we are.
#
#   scripts/as-user.sh COMMAND…
if [ "$(id -u)" = 0 ] && [ "${SUDO_UID:-0}" != 0 ] &&
  [ "$(stat -c %u "$(dirname "$0")")" = "$SUDO_UID" ] &&
  home=$(getent passwd "$SUDO_UID" | cut -d: -f6) && [ -n "$home" ]; then
  exec setpriv --reuid="$SUDO_UID" --regid="$SUDO_GID" --init-groups \
    env -u SUDO_UID -u SUDO_GID HOME="$home" "$@"
fi
exec "$@"
