#!/bin/sh
# Runs a command in an arm64 userland: enter.sh ROOT CORE SITE COMMAND...
# userland.py starts it as root of namespaces of its own, so that nothing is mounted or registered on the machine itself.
set -eu
root=$1 core=$2 site=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd)

mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
cat /usr/lib/binfmt.d/qemu-aarch64.conf >/proc/sys/fs/binfmt_misc/register

mkdir -p "$root/proc" "$root/sys" "$root/site" "$root/repo" "$root/root"
mount -t proc proc "$root/proc"
# what LiteRT reads of the processor: without these files, or with others than qemu's, it crashes or leaves XNNPACK out
mount --bind "$here/cores/$core.cpuinfo" "$root/proc/cpuinfo"
mount -t tmpfs tmpfs "$root/sys"
mkdir -p "$root/sys/devices/system/cpu"
for file in possible present online; do
    echo 0-3 >"$root/sys/devices/system/cpu/$file"
done
echo 255 >"$root/sys/devices/system/cpu/kernel_max"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount -o bind,ro "$here/../.." "$root/repo"
mount -o bind,ro "$site" "$root/site"

exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 QEMU_CPU="$core" \
    PYTHONPATH=/site sh -c 'cd /repo && exec "$@"' sh "$@"
