#!/bin/sh
# Runs the device's program as the door's own user, with the door's state folder and key. /usr/local/bin/edge-oneshot-device
# is a link to this file. Root drops its rights first, so that no file of that user in the state folder can mislead root.
# It hands over the key as systemd does: as a copy in a private folder that exists only while the program runs.
#   edge-oneshot-device COMMAND ...
#   as-door.sh --program FILE ...       run another program instead, for install.sh
set -eu

user=edge-oneshot
state=/var/lib/edge-oneshot
key=/etc/edge-oneshot.key
PATH=/usr/sbin:/usr/bin:/sbin:/bin

fail() {
    echo "edge-oneshot-device: $1" >&2
    exit "$2"
}

program=$(dirname "$(readlink -f "$0")")/bin/edge-oneshot-device
if [ "${1:-}" = --program ]; then
    program=$2
    shift 2
fi
umask 077
if [ "$(id -un)" = "$user" ]; then
    EDGE_ONESHOT_STATE=$state exec "$program" "$@"
fi
[ "$(id -u)" = 0 ] || fail "the door belongs to the user $user: run sudo edge-oneshot-device ..." 2

if command -v setpriv >/dev/null; then
    drop="setpriv --reuid $user --regid $user --init-groups --inh-caps=-all --no-new-privs"
elif command -v runuser >/dev/null; then
    drop="runuser -u $user --"
else
    fail "setpriv or runuser is needed to act as $user: apt install util-linux" 4
fi

getent passwd "$user" >/dev/null || fail "there is no user $user: run install.sh" 4
run=
handed=$(mktemp -d /run/edge-oneshot.XXXXXXXXXX) || fail "the key cannot be handed over in /run" 4
trap 'rm -rf "$handed"' EXIT
trap '[ -z "$run" ] || kill "$run" 2>/dev/null || :' HUP INT TERM
case $(stat -Lc %a "$key" 2>/dev/null) in
    *00)
        # the folder is handed over last: from then on that user may change what is in it
        { install -o "$user" -g "$user" -m 0400 "$key" "$handed/edge-oneshot.key" && chown "$user:$user" "$handed"; } ||
            fail "the key cannot be handed over in $handed" 4
        secret=CREDENTIALS_DIRECTORY=$handed
        ;;
    *) secret=EDGE_ONESHOT_KEY=$key ;; # missing, or open to other users: the program reports it and names the file
esac

# The program gets its own session, so that a process that takes it over cannot type into root's terminal. setsid is last
# because setpriv still looks up its program with root's capabilities.
exec 3<&0
# shellcheck disable=SC2086 # words, split on purpose
env -i PATH="$PATH" LANG=C.UTF-8 HOME="$state" EDGE_ONESHOT_STATE="$state" "$secret" \
    $drop setsid "$program" "$@" <&3 3<&- &
run=$!
code=0
wait "$run" || code=$?
while kill -0 "$run" 2>/dev/null; do # a signal interrupted the wait
    code=0
    wait "$run" || code=$?
done
exit "$code"
