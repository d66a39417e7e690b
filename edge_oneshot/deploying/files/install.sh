#!/bin/sh
# Installs this archive without a network, and goes back to what was there before when the door is not fit after it.
#   sudo ./install.sh                            /opt/edge-oneshot, /var/lib/edge-oneshot, /etc/edge-oneshot.key, a service
#   ./install.sh --prefix DIR --state DIR --key FILE --no-service      for one user, without root
set -eu

prefix=/opt/edge-oneshot
state=/var/lib/edge-oneshot
key=/etc/edge-oneshot.key
service=yes
python=

fail() {
    echo "install.sh: $1" >&2
    exit "${2:-4}"
}

while [ $# -gt 0 ]; do
    case $1 in
        --prefix | --state | --key | --python)
            [ $# -ge 2 ] || fail "$1 takes a value" 2
            case $1 in
                --prefix) prefix=$2 ;;
                --state) state=$2 ;;
                --key) key=$2 ;;
                --python) python=$2 ;;
            esac
            shift 2
            ;;
        --no-service)
            service=no
            shift
            ;;
        *) fail "$1 is not known; look into this file" 2 ;;
    esac
done

cd "$(dirname "$0")"
# shellcheck source=/dev/null
. ./release.env # RELEASE, MACHINE, PYTHON_VERSION, INIT_OPTIONS
python=${python:-python$PYTHON_VERSION}

[ "$(uname -m)" = "$MACHINE" ] || fail "this archive is for $MACHINE, this machine is $(uname -m): deploy --machine $(uname -m)" 2
command -v "$python" >/dev/null || fail "$python is missing: deploy --python with the version that python3 --version says" 2
"$python" -c 'import venv, ensurepip' 2>/dev/null || fail "$python cannot make environments: apt install python$PYTHON_VERSION-venv" 2
if [ "$service" = yes ] && [ "$(id -u)" != 0 ]; then
    fail "a service takes root: sudo ./install.sh, or --no-service with --prefix, --state and --key of your own" 2
fi
sha256sum --quiet --check SHA256SUMS || fail "the archive is damaged: build it again" 3

release=$RELEASE
target=$prefix/releases/$release
before=$(readlink "$prefix/current" 2>/dev/null || true)
mkdir -p "$prefix/releases"

if [ ! -e "$target/complete" ]; then
    rm -rf "$target"
    "$python" -m venv "$target" || fail "$python makes no environment in $target"
    "$target/bin/pip" install --quiet --disable-pip-version-check --no-index --find-links wheels --require-hashes \
        -r requirements.txt || fail "the wheels of this archive cannot be installed: nothing was changed"
    cp README.txt "$target/README.txt"
    touch "$target/complete"
fi

if [ "$service" = yes ]; then
    getent group edge-oneshot >/dev/null || groupadd --system edge-oneshot
    id -u edge-oneshot >/dev/null 2>&1 ||
        useradd --system --gid edge-oneshot --home-dir "$state" --no-create-home --shell /usr/sbin/nologin edge-oneshot
fi

device=$target/bin/edge-oneshot-device
installed=$([ -e "$state/gallery.db" ] && echo yes || echo no)
# shellcheck disable=SC2086 # options, split on purpose
if ! "$device" init bundle.oneshot --state "$state" --key "$key" $INIT_OPTIONS; then
    fail "the bundle was not taken: what was in use still is" 3
fi
if ! "$device" doctor --state "$state" --key "$key"; then
    if [ "$installed" = yes ]; then
        "${before:-$target}/bin/edge-oneshot-device" rollback --state "$state" --key "$key" >/dev/null ||
            fail "the door is not fit, and there is no way back: look at $device doctor --state $state --key $key"
    fi
    fail "the door is not fit: what was in use before is in use again"
fi

# one rename, so that there is always a program
ln -sfn "$target" "$prefix/current.new"
mv -T "$prefix/current.new" "$prefix/current"

if [ "$service" = yes ]; then
    chown -R edge-oneshot:edge-oneshot "$state"
    install -m 0644 edge-oneshot.service /etc/systemd/system/edge-oneshot.service
    install -m 0644 99-edge-oneshot-coral.rules /etc/udev/rules.d/99-edge-oneshot-coral.rules
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        systemctl enable --quiet edge-oneshot.service
        systemctl restart edge-oneshot.service
        udevadm control --reload || true
    fi
fi

# this release and the one before it are kept
for old in "$prefix/releases"/*; do
    case $old in
        "$target" | "$before") ;;
        *) rm -rf "$old" ;;
    esac
done
echo "installed $release: $prefix/current/bin/edge-oneshot-device identify IMAGE --state $state --key $key"
