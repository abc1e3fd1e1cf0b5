#!/bin/sh
# Third program in the guest: runs the job's command and reports its output (port 3), its status (port 2) and the
# files it left in /out (second disk). Then the machine is off.
exec </dev/null >/dev/hvc0 2>&1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TERM=dumb
. /run/job/environment

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
