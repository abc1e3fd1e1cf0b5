#!/bin/busybox sh
# First program in the guest: finds the disks, mounts the root file system and hands over to second.sh.
/bin/busybox mkdir -p /dev /newroot
/bin/busybox mount -t devtmpfs dev /dev
for module in /early/*.ko; do
    [ -e "$module" ] && /bin/busybox insmod "$module"
done
tries=0
while [ ! -b /dev/vdc ] && [ $tries -lt 500 ]; do
    /bin/busybox usleep 10000
    tries=$((tries + 1))
done
# The console may be one of the modules, and 6.1 shows it a moment before it can be opened. A shell whose own redirection fails
# ends, and the kernel with it.
tries=0
until [ -c /dev/hvc0 ] && (: >/dev/hvc0) 2>/dev/null || [ $tries -ge 500 ]; do
    /bin/busybox usleep 10000
    tries=$((tries + 1))
done
exec </dev/null >/dev/hvc0 2>&1
/bin/busybox mount -t ext4 /dev/vda /newroot || echo "no root file system"
/bin/busybox mkdir -p /newroot/lib/modules /newroot/run
/bin/busybox mount -t ext4 -o ro /dev/vdc /newroot/lib/modules || echo "no modules"
/bin/busybox mount -t tmpfs run /newroot/run
/bin/busybox cp -r /job /newroot/run/job
/bin/busybox mount -o move /dev /newroot/dev
exec /bin/busybox switch_root /newroot /run/job/second.sh
