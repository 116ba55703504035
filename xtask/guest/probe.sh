#!/bin/sh
# Says on the serial console what only the booted root file system can say, then writes to it.
# `boot=dirty` means that the previous boot's write is still there.
written=/var/lib/headwater-lab/written
if [ -e "$written" ]; then boot=dirty; else boot=clean; fi
root=$(findmnt --noheadings --output SOURCE /)
printf '\r\nHEADWATER-MARKER host=%s boot=%s kernel=%s root=%s\r\n' \
    "$(hostname)" "$boot" "$(uname -r)" "$root" >/dev/ttyS0
mkdir -p "${written%/*}"
cat /proc/uptime >"$written" && sync "$written" && printf '\r\nHEADWATER-WROTE\r\n' >/dev/ttyS0
