#!/bin/sh
# Lays out what the image is made of: ROOT/root for everybody, ROOT/own for the image's user.
#   sh deploy/image-root.sh PROGRAM ROOT
# The C library comes along, since a program that has it linked in cannot load a driver's library (NVML).
set -eu
program=$1
root=$2/root
own=$2/own

install -D "$program" "$root/usr/bin/sextant"
# Each by its path, the dynamic linker among them.
libraries=$(ldd "$program" | grep -o '/[^ ]*')
beside=$(dirname "$(ldd "$program" | grep -o '/[^ ]*/libc\.so\.6')")
# Parts of older C libraries, empty since 2.34, that drivers' libraries are still linked with.
for part in libdl.so.2 libpthread.so.0 librt.so.1; do
    libraries="$libraries $beside/$part"
done
for library in $libraries; do
    install -D "$library" "$root$library"
done
install -d "$own/var/lib/sextant" "$own/run/sextant"
