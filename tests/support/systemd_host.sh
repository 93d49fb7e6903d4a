#!/bin/sh
# The inside of a host whose PID 1 is systemd (systemd_host.py), in namespaces of its own: FOLDER TOOLS SHOW...
# The machine's own files, whatever is written over them in memory; /var, /run and /tmp are empty.
# SHOW is FROM=TO: a directory of the machine, read-only, under another name.
set -eu
folder=$1 root=$1/root
tools=$2
shift 2
mount --make-rprivate /
mount -t tmpfs tmpfs "$folder"
mkdir "$folder/upper" "$folder/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$root"
# A machine without systemd gets what was unpacked; what it has stays.
if [ -n "$tools" ]; then
    for tree in "$tools/usr" "$tools/lib.d/usr"; do
        [ -d "$tree" ] && cp -a --no-clobber "$tree/." "$root/usr/"
    done
fi
for name in etc/systemd/system etc/machine-id etc/containerd; do rm -rf "${root:?}/$name"; done
# Not the first boot, which would ask questions.
tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
# Nothing but the journal and what a service may be ordered by: none of the machine's own services.
mkdir -p "$root/etc/systemd/system" "$root/opt/units"
for name in basic sysinit sockets timers paths slices local-fs network-pre network network-online multi-user shutdown \
    umount final swap time-set; do
    cp "$root/lib/systemd/system/$name.target" "$root/opt/units/"
done
cp "$root/lib/systemd/system/systemd-journald.service" "$root/lib/systemd/system/systemd-journald.socket" \
    "$root/lib/systemd/system/systemd-journald-dev-log.socket" "$root/opt/units/"
mkdir "$root/opt/units/sysinit.target.wants"
ln -s ../systemd-journald.service "$root/opt/units/sysinit.target.wants/"
ln -s /opt/units/multi-user.target "$root/etc/systemd/system/default.target"
for name in tmp var run; do mount -t tmpfs -o mode=755 tmpfs "$root/$name"; done
chmod 1777 "$root/tmp"
mkdir -p "$root/var/lib" "$root/var/log/journal" "$root/var/cache" "$root/run/lock"
mkdir -m 1777 "$root/var/tmp"
for pair; do
    to=$root/${pair#*=}
    mkdir -p "$to"
    mount --bind "${pair%%=*}" "$to"
    mount -o remount,bind,ro "$to"
done
mount -t proc proc "$root/proc"
# The kernel is everybody's: no setting of it is changed from here.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero full random urandom tty; do
    : >"$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
if grep -q ' /sys/fs/cgroup/memory cgroup ' /proc/mounts; then
    mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
    mkdir "$root/sys/fs/cgroup/unified" "$root/sys/fs/cgroup/systemd"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified"
    mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
else
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
fi
cd "$root"
pivot_root . .
umount -l .
exec env -i container=peili-bed SYSTEMD_UNIT_PATH=/etc/systemd/system:/opt/units SYSTEMD_GENERATOR_PATH=/nowhere PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
    /lib/systemd/systemd --show-status=no --log-level=info --log-target=journal
