#!/bin/sh
# Runs each line that arrives on the second serial port, for tests and for the lab.
stty -echo -onlcr
echo HEADWATER-SHELL
while read -r line; do
    eval "$line" </dev/null 2>&1
done
