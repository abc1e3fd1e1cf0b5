#!/bin/sh
# Second program in the guest: makes the root file system look like a machine and hands over to third.sh, by itself or
# through systemd.
exec </dev/null >/dev/hvc0 2>&1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TERM=dumb
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
mkdir -p /dev/pts /dev/shm /share /out
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs -o mode=1777 tmp /tmp
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
# libbpf looks here for the kernel's configuration; schedulers with a .kconfig map do not load without it.
ln -sf "/lib/modules/$(uname -r)/config" "/boot/config-$(uname -r)"
echo sextant-vm >/proc/sys/kernel/hostname
ip link set lo up
[ -b /dev/vdd ] && mount -t ext4 /dev/vdd /share
. /run/job/environment

# host port -> QEMU -> 10.0.2.15:20000+n -> here -> 127.0.0.1:port, so that a service need not listen on more than
# loopback to be reached.
if [ -n "$FORWARDED_PORTS" ]; then
    modprobe virtio_net
    tries=0
    while [ ! -d /sys/class/net/eth0 ] && [ $tries -lt 100 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    ip address add 10.0.2.15/24 dev eth0 && ip link set eth0 up
    relay=20000
    for port in $FORWARDED_PORTS; do
        socat "TCP-LISTEN:$relay,bind=10.0.2.15,fork,reuseaddr" "TCP:127.0.0.1:$port" &
        relay=$((relay + 1))
    done
fi

[ -z "$SERVICE_MANAGER" ] && exec /run/job/third.sh
# As on most machines: systemd is process 1, and the job is one of its services.
cat >/etc/systemd/system/job.service <<UNIT
[Service]
Type=oneshot
ExecStart=/run/job/third.sh
UNIT
# Without these, systemd takes this for the machine's first boot, or for one after an update.
echo 5e87a47f5e87a47f5e87a47f5e87a47f >/etc/machine-id
touch /etc/.updated /var/.updated
exec /lib/systemd/systemd --unit=job.service
