#!/usr/bin/env bash
# Prints the Python that the virtual environment is made with: the distribution's own, where it is new enough and whole.
# Distributions build it with profile-guided optimisation, version managers mostly without: a sixth of the speed.
set -euo pipefail

for python in /usr/bin/python3 python3; do
  if "$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "$python"
    exit 0
  fi
done
echo python3
