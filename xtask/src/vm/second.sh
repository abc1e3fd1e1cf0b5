#!/bin/sh
# Second program in the guest: makes the root file system look like a machine, runs the job's command and reports
# its output (port 3), its status (port 2) and the files it left in /out (second disk). Then the machine is off.
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

# The port may be opened only once, so the command writes into a pipe.
mkfifo /run/output
cat /run/output >/dev/vport0p3 &
copier=$!
cd /share || exit
/run/job/command.sh </dev/null >/run/output 2>&1
status=$?
# What the command left running keeps the pipe open: what it writes later is not waited for.
tries=0
while kill -0 $copier 2>/dev/null && [ $tries -lt 20 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
[ -n "$KEEP_OUT" ] && tar -C /out -cf /dev/vdb .
echo $status >/dev/vport0p2
sync
echo o >/proc/sysrq-trigger
sleep 60
