#!/usr/bin/env bash
# Installs the Debian packages that the tests drive (a browser, fonts, a C compiler, a database server, systemd, packet filters), as root only.
set -euo pipefail

missing=()
[ -x /usr/bin/chromium ] || missing+=(chromium)
fc-list 2>/dev/null | grep -q "Noto Sans CJK" || missing+=(fontconfig fonts-noto-cjk)
command -v cc >/dev/null || missing+=(gcc libc6-dev)
[ -x /usr/sbin/nft ] || missing+=(nftables)
[ -x /sbin/ip ] || missing+=(iproute2)
[ -x /usr/bin/systemd-analyze ] || missing+=(systemd)
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing+=(postgresql)
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "These Debian packages are missing; install them and run again: ${missing[*]}" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
