#!/bin/sh
# Installs this archive without a network, and restores what was in use before if the door does not work afterwards.
# The digests are checked before anything else of the archive is used, and what is done in the door's folder is done as
# the door's user.
set -eu
umask 022

usage() {
    cat <<'USAGE'
usage: sudo ./install.sh [--python PYTHON]
       ./install.sh --no-service --prefix DIR --state DIR --key FILE [--python PYTHON]

Installs a door: the program in /opt/edge-oneshot, the gallery in /var/lib/edge-oneshot, its key in
/etc/edge-oneshot.key, a service, and the command edge-oneshot-device in /usr/local/bin; with an archive of
deploy --door also /etc/edge-oneshot/door.toml and the service that runs the door.

  --no-service     install without a service, for the user who runs this, in these places:
  --prefix DIR       folder of the program
  --state DIR        folder of the bundle and the gallery
  --key FILE         the gallery's key, created if it does not exist
  --python PYTHON  the Python to run it with (default: the version that the archive was built for)
  --help           print this
USAGE
}

user=edge-oneshot
prefix=
state=
key=
service=yes
python=
unit=/etc/systemd/system/edge-oneshot.service
door_unit=/etc/systemd/system/edge-oneshot-door.service
door=/etc/edge-oneshot/door.toml
rules=/etc/udev/rules.d/99-edge-oneshot-coral.rules
command=/usr/local/bin/edge-oneshot-device
bash_completion=/usr/local/share/bash-completion/completions/edge-oneshot-device
zsh_completion=/usr/local/share/zsh/site-functions/_edge-oneshot-device

# Every exit runs this: once something was changed, it restores what was in use before.
kept=$(mktemp -d)
why="a step failed"
begun=no
finish() {
    code=$?
    trap - EXIT
    set +e
    if [ "$code" != 0 ]; then
        [ "$begun" = no ] || put_back
        echo "install.sh: $why" >&2
    fi
    rm -rf "$kept"
    exit "$code"
}
trap finish EXIT
trap 'fail interrupted 130' HUP INT TERM
trap '' PIPE

fail() {
    why=$1
    exit "${2:-4}"
}

absolute() {
    case $1 in
        /*) echo "$1" ;;
        *) echo "$PWD/$1" ;;
    esac
}

while [ $# -gt 0 ]; do
    case $1 in
        --prefix | --state | --key | --python)
            [ -n "${2:-}" ] || fail "$1 needs a value" 2
            case $1 in
                --prefix) prefix=$(absolute "$2") ;;
                --state) state=$(absolute "$2") ;;
                --key) key=$(absolute "$2") ;;
                --python) python=$2 ;;
            esac
            shift 2
            ;;
        --no-service)
            service=no
            shift
            ;;
        --help | -h)
            usage
            exit
            ;;
        *) fail "unknown option $1: see ./install.sh --help" 2 ;;
    esac
done
case $python in
    */*) python=$(absolute "$python") ;;
esac

if [ "$service" = no ]; then
    for named in "$prefix" "$state" "$key"; do
        [ -n "$named" ] || fail "--no-service needs --prefix, --state and --key" 2
    done
else
    [ -z "$prefix$state$key" ] || fail "--prefix, --state and --key go with --no-service: the service has its own" 2
    [ "$(id -u)" = 0 ] || fail "a service needs root: run sudo ./install.sh, or use --no-service, see --help" 2
    prefix=/opt/edge-oneshot
    state=/var/lib/edge-oneshot
    key=/etc/edge-oneshot.key
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
fi

# The archive: every file is listed, regular and unaltered, and there are no others.
here=$(cd "$(dirname "$0")" && pwd -P)
cd "$here"
damaged="the archive is damaged: build it again"
sed -n 's/^[0-9a-f]\{64\}  //p' SHA256SUMS | LC_ALL=C sort >"$kept/listed"
find . ! -type d ! -path ./SHA256SUMS | sed 's|^\./||' | LC_ALL=C sort >"$kept/there"
cmp -s "$kept/listed" "$kept/there" || fail "$damaged" 3
[ -z "$(find . ! -type d ! -type f)" ] || fail "$damaged" 3
sha256sum --quiet --strict --check SHA256SUMS || fail "$damaged" 3
release=
machine=
version=
options=
groups=
packages=
while IFS='=' read -r name value; do
    case $value in
        *[!A-Za-z0-9._+\ -]*) fail "$damaged" 3 ;;
    esac
    case $name in
        RELEASE) release=$value ;;
        MACHINE) machine=$value ;;
        PYTHON_VERSION) version=$value ;;
        INIT_OPTIONS) options=$value ;;
        DOOR_GROUPS) groups=$value ;;
        SYSTEM_PACKAGES) packages=$value ;;
        *) fail "$damaged" 3 ;;
    esac
done <release.env
is_release() {
    case $1 in
        *[!0-9a-f]*) return 1 ;;
        *) [ ${#1} = 12 ] ;;
    esac
}
is_release "$release" || fail "$damaged" 3
for word in $options; do
    case $word in
        --variant | --runtime | --allow-cpu | --target-far | --trust | --re-enrol | --empty | [!-]*) ;;
        *) fail "$damaged" 3 ;;
    esac
done

# The machine: refuse everything that can be refused before anything is changed.
[ "$(uname -m)" = "$machine" ] ||
    fail "this archive is for $machine, this machine is $(uname -m): deploy --machine $(uname -m)" 2
python=$(command -v "${python:-python$version}") ||
    fail "python$version is missing: deploy --python with the version that python3 --version prints" 2
"$python" -I -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$python cannot make environments: apt install python$version-venv" 2
had_door=no
if [ "$service" = yes ] && [ -e "$door_unit" ]; then
    had_door=yes
    [ -e door.toml ] || fail "a door runs here, and this archive has none: deploy --door, or remove $door_unit" 2
fi
target=$prefix/releases/$release
before=$prefix/releases/$(basename "$(readlink "$prefix/current" || :)")
[ -x "$before/bin/edge-oneshot-device" ] || before=

# device RELEASE WORDS: the program of a release, as the door's user
device() {
    in=$1
    shift
    if [ "$service" = yes ]; then
        sh "$here/as-door.sh" --program "$in/bin/edge-oneshot-device" "$@"
    else
        "$in/bin/edge-oneshot-device" "$@" --state "$state" --key "$key"
    fi
}

as_user() {
    [ "$service" = no ] || sh "$here/as-door.sh" --program "$@"
}

# fit RELEASE UNIT: whether the unit's command succeeds with that release, as the unit's user and, where systemd runs, with
# the unit's limits
fit() {
    if [ "$service" = no ]; then
        device "$1" doctor >"$kept/said" 2>&1
    elif [ -d /run/systemd/system ]; then
        check=edge-oneshot-check.service
        sed "s|$prefix/current/|$1/|; /^RemainAfterExit=/d" "$2" >"/run/systemd/system/$check"
        passed=yes
        { systemctl daemon-reload && systemctl start "$check"; } >"$kept/said" 2>&1 || passed=no
        journalctl --quiet --unit "$check" --lines 20 --output cat >>"$kept/said" 2>/dev/null || :
        systemctl reset-failed "$check" 2>/dev/null || :
        rm -f "/run/systemd/system/$check"
        systemctl daemon-reload
        [ "$passed" = yes ]
    else
        words=$(sed -n "s|^ExecStart=$prefix/current/bin/edge-oneshot-device ||p" "$2")
        # shellcheck disable=SC2086 # words, split on purpose
        [ -n "$words" ] && device "$1" $words >"$kept/said" 2>&1
    fi
}

# fit_door RELEASE CONFIG: whether camera, lock and what else the configuration names are there for the door's user
fit_door() {
    device "$1" doctor --config "$2" >"$kept/said" 2>&1
}

# whether the door works as it is installed now; where systemd runs, its service has to say that it is ready
works() {
    if [ "$service" = yes ] && [ -d /run/systemd/system ]; then
        { systemctl daemon-reload && systemctl restart edge-oneshot.service; } >"$kept/said" 2>&1 || return 1
        [ -e "$door_unit" ] || return 0
        systemctl restart edge-oneshot-door.service >"$kept/said" 2>&1 && return
        journalctl --quiet --unit edge-oneshot-door.service --lines 20 --output cat >>"$kept/said" 2>/dev/null || :
        return 1
    fi
    fit "$prefix/current" "$unit" || return 1
    [ "$service" = no ] || [ ! -e "$door_unit" ] || fit_door "$prefix/current" "$door"
}

# one rename, so that there is always a program
use() {
    ln -sfn "$1" "$prefix/current.new"
    mv -T "$prefix/current.new" "$prefix/current"
}

# place FILE WHERE [MODE GROUP]: by one rename; the former file is kept for put_back
place() {
    if [ -e "$2" ] || [ -L "$2" ]; then cp -pP "$2" "$kept/${2##*/}"; fi
    : >"$kept/${2##*/}.placed"
    install -D -m "${3:-0644}" -g "${4:-root}" "$1" "$2.new"
    mv -T "$2.new" "$2"
}

# a file whose copy could not be kept was not touched, and stays
replace() {
    [ -e "$kept/${1##*/}.placed" ] || return 0
    if [ -e "$kept/${1##*/}" ] || [ -L "$kept/${1##*/}" ]; then
        cp -pP "$kept/${1##*/}" "$1.new" && mv -T "$1.new" "$1"
    else
        rm -f "$1"
    fi
}

# systemctl and udevadm, only where systemd runs
tell() {
    [ ! -d /run/systemd/system ] || "$@"
}

replaced=no
switched=no
put_back() {
    [ ! -s "$kept/said" ] || cat "$kept/said" >&2
    again="what was in use before"
    if [ "$replaced" = yes ] && ! device "$target" rollback >"$kept/said" 2>&1; then
        again="the former bundle cannot be restored ($(tail -n 1 "$kept/said")): the former program"
    fi
    if [ "$switched" = yes ]; then
        if [ -n "$before" ]; then use "$before"; else rm -f "$prefix/current"; fi
        if [ "$service" = yes ]; then
            [ -n "$before" ] || tell systemctl disable --quiet --now edge-oneshot.service
            [ "$had_door" = yes ] || tell systemctl disable --quiet --now edge-oneshot-door.service || :
            replace "$unit"
            replace "$door_unit"
            replace "$door"
            replace "$rules"
            replace "$bash_completion"
            replace "$zsh_completion"
            [ -n "$before" ] || rm -f "$command"
            tell udevadm control --reload
            tell systemctl daemon-reload
        fi
    fi
    if [ -z "$before" ]; then
        why="$why: nothing was in use before"
    elif works; then
        why="$why: $again is in use again"
    else
        why="$why: $again is restored, but does not work either"
    fi
}

if [ "$service" = yes ]; then
    [ ! -L "$state" ] || fail "$state is a link, but must be a folder: mount a disk there instead"
    if [ -e "$state" ]; then
        [ -d "$state" ] || fail "$state is not a folder: move it away"
        [ "$(stat -c %u "$state")" = "$(id -u "$user" 2>/dev/null || :)" ] ||
            fail "$state does not belong to $user: look what is in it, then move it away or give it to that user"
    fi
    if [ -e "$command" ] && [ "$(readlink "$command")" != "$prefix/current/as-door.sh" ]; then
        fail "$command was not made by this installer: move it away"
    fi
    [ -e "$key" ] || [ ! -e "$state/gallery.db" ] || fail "the key $key of the gallery is gone: restore it" 3
    getent group "$user" >/dev/null || groupadd --system "$user"
    getent passwd "$user" >/dev/null ||
        useradd --system --gid "$user" --home-dir "$state" --no-create-home --shell /usr/sbin/nologin "$user"
    for group in $groups; do # those that this system has
        if getent group "$group" >/dev/null; then usermod --append --groups "$group" "$user"; fi
    done
    as_user "$python" -I -c pass ||
        fail "$user cannot run $python, which other users cannot open: apt install python$version, or --python another" 2
    install -d -o root -g root -m 0755 "$prefix" "$prefix/releases"
else
    [ ! -e "$state" ] || [ "$(stat -Lc %u "$state")" = "$(id -u)" ] || fail "$state belongs to another user: use your own folder" 2
    mkdir -p "$prefix/releases"
fi

# The program, beside the one in use.
clean() {
    env -i PATH="$PATH" LANG=C.UTF-8 HOME=/ PIP_CONFIG_FILE=/dev/null "$@"
}
if [ ! -e "$target/complete" ]; then
    rm -rf "$target"
    clean "$python" -I -m venv ${packages:+--system-site-packages} "$target" || fail "$python cannot create an environment in $target"
    clean "$target/bin/python" -I -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-index \
        --find-links wheels --require-hashes -r requirements.txt ||
        fail "the wheels of this archive cannot be installed: nothing was changed"
    install -m 0644 README.txt completion.bash completion.zsh "$target"
    install -m 0755 as-door.sh "$target/as-door.sh"
    as_user "$target/bin/python" -I -c pass || fail "$user cannot run the program in $target: run chmod a+rx on the folders above it"
    sync -f "$target"
    touch "$target/complete"
fi

# The bundle, and whether the door works with it. From here to the end only SIGKILL interrupts.
trap '' HUP INT TERM
begun=yes
installed=$([ -e "$state/gallery.db" ] && echo yes || echo no)
offered=$here
if [ "$service" = yes ]; then
    [ -e "$state" ] || install -d -o "$user" -g "$user" -m 0700 "$state"
    if [ ! -e "$key" ]; then
        (umask 077 && od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n' >"$key.made")
        sync "$key.made"
        mv -nT "$key.made" "$key"
        sync "$(dirname "$key")"
    fi
    offered=$target # where that user may read it
    install -m 0644 bundle.oneshot "$target/bundle.oneshot"
    [ ! -e trusted.pub ] || install -m 0644 trusted.pub "$target/trusted.pub"
    [ ! -e door.toml ] || install -m 0640 -g "$user" door.toml "$target/door.toml"
fi
cd "$offered"
# shellcheck disable=SC2086 # words, split on purpose
if ! device "$target" init bundle.oneshot $options --json >"$kept/init" 2>"$kept/refused" &&
    ! grep -q '"reason":"not_wiped"' "$kept/refused"; then # installed; the next opening wipes what is left to wipe
    refused=$(tail -n 1 "$kept/refused" | sed 's/^{"error":"\(.*\)","reason":"[a-z_]*"}$/\1/; s/\\\(["\\]\)/\1/g')
    fail "init refused the bundle ($refused)" 3
fi
cd "$here"
grep -q '"replaced":false' "$kept/init" || replaced=$installed
fit "$target" edge-oneshot.service || fail "the door does not work"
if [ "$service" = yes ] && [ -e door.toml ]; then
    fit_door "$target" "$target/door.toml" || fail "the door does not work with door.toml"
fi

switched=yes
use "$target"
if [ "$service" = yes ]; then
    place edge-oneshot.service "$unit"
    place 99-edge-oneshot-coral.rules "$rules"
    if [ -e door.toml ]; then
        if [ -e "$door" ] && ! cmp -s door.toml "$door"; then cp -p "$door" "$door.former"; fi
        place door.toml "$door" 0640 "$user"
        place edge-oneshot-door.service "$door_unit"
    fi
    place completion.bash "$bash_completion" || : # no door is given up for a comfort
    place completion.zsh "$zsh_completion" || :
    install -d "$(dirname "$command")"
    ln -sfn "$prefix/current/as-door.sh" "$command.new"
    mv -T "$command.new" "$command"
    tell udevadm control --reload || :
    tell systemctl daemon-reload
    tell systemctl enable --quiet edge-oneshot.service
    [ ! -e door.toml ] || tell systemctl enable --quiet edge-oneshot-door.service
    works || fail "the service does not start"
    rm -f "$target/bundle.oneshot" "$target/trusted.pub" "$target/door.toml"
fi

# Keep this release and the one before it; leave alone what is not a release of ours.
for old in "$prefix/releases"/*; do
    case $old in
        "$target" | "$before") continue ;;
    esac
    if [ "$before" != "$target" ] && is_release "${old##*/}" && [ -d "$old" ] && [ ! -L "$old" ]; then
        rm -rf "$old" || :
    fi
done
if [ "$service" = yes ] && [ -e door.toml ]; then
    echo "installed $release: the door runs, see journalctl --follow --unit edge-oneshot-door"
elif [ "$service" = yes ]; then
    echo "installed $release: sudo edge-oneshot-device identify IMAGE"
else
    echo "installed $release: $prefix/current/bin/edge-oneshot-device identify IMAGE --state $state --key $key"
fi
