#!/bin/sh
# Shows what KangKlip's GPU path does on this machine, which needs no network: ./run.sh --help
case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
for python in python3 python3.11 python3.12 python3.13 python3.14; do
  if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    exec "$python" "$here/unpack.py" "$@"
  fi
done
echo "There is no Python 3.11 or later on this machine: install one." >&2
exit 2
