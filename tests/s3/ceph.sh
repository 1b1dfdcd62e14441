#!/usr/bin/env bash
# An S3 server for the tests: Ceph's RADOS gateway with one monitor and one in-memory object store, from Debian's packages.
#
#   ceph.sh install               install the packages (Debian or Ubuntu, as root)
#   ceph.sh up DIR PORT [PID]     start in DIR (absolute, short, not there yet) on PORT, PORT+1 and PORT+2 of 127.0.0.1;
#                                 installs first when needed; with PID, everything stops when that process ends
#   ceph.sh down DIR              stop what `up` started in DIR and remove DIR
#
# Exit status 3: neither installed nor installable here. Access key `test`, secret `testtest`, region `us-east-1`.
set -euo pipefail

packages=(ceph-mon ceph-osd radosgw ceph-common)
programs=(ceph-mon ceph-osd radosgw ceph ceph-authtool monmaptool radosgw-admin)

installed() {
  local program
  for program in "${programs[@]}"; do command -v "$program" >/dev/null || return 1; done
}

install() {
  installed && return
  if ! command -v apt-get >/dev/null || [[ $(id -u) != 0 ]]; then
    echo "ceph.sh: needs ${packages[*]}; install them, or run as root where apt-get is" >&2
    exit 3
  fi
  apt-get update -qq >&2 &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null || {
      echo "ceph.sh: apt-get could not install ${packages[*]}" >&2
      exit 3
    }
}

settings() { # DIR PORT FSID
  cat <<EOF
[global]
fsid = $3
keyring = $1/keyring
run dir = $1
admin socket = $1/\$name.asok
pid file = $1/\$name.pid
log file = $1/\$name.log
mon initial members = a
mon host = [v2:127.0.0.1:$(($2 + 1)),v1:127.0.0.1:$(($2 + 2))]
auth allow insecure global id reclaim = true
mon data avail crit = 0
mon max pg per osd = 1000
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
[mon.a]
mon data = $1/mon
public addr = 127.0.0.1
[osd.0]
osd data = $1/osd
osd objectstore = memstore
memstore device bytes = $((4 << 30))
public addr = 127.0.0.1
[client.rgw]
rgw data = $1/rgw
rgw frontends = beast endpoint=127.0.0.1:$2 tcp_nodelay=1
rgw run sync thread = false
rgw gc obj min wait = 5
rgw gc processor period = 10
rgw gc processor max time = 10
EOF
}

up() { # DIR PORT [PID]
  local dir=$1 port=$2 watched=${3:-} fsid osd
  if [[ $dir != /* || ${#dir} -gt 60 || -e $dir ]]; then
    echo "ceph.sh: DIR must be absolute, at most 60 characters and new; got '$dir'" >&2
    exit 2
  fi
  install
  fsid=$(</proc/sys/kernel/random/uuid) osd=$(</proc/sys/kernel/random/uuid)
  mkdir -p "$dir"/{mon,osd,rgw}
  settings "$dir" "$port" "$fsid" >"$dir/ceph.conf"
  export CEPH_CONF=$dir/ceph.conf
  if [[ -n $watched ]]; then
    setsid bash -c 'while kill -0 "$2" 2>/dev/null; do sleep 1; done; exec bash "$0" down "$1"' \
      "$(realpath "${BASH_SOURCE[0]}")" "$dir" "$watched" </dev/null >/dev/null 2>&1 &
  fi

  local keys=(ceph-authtool "$dir/keyring")
  "${keys[@]}" --create-keyring --gen-key -n mon. --cap mon 'allow *' >/dev/null
  "${keys[@]}" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' >/dev/null
  "${keys[@]}" --gen-key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *' >/dev/null
  "${keys[@]}" --gen-key -n client.rgw --cap mon 'allow rw' --cap osd 'allow rwx' >/dev/null
  monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$((port + 1)),v1:127.0.0.1:$((port + 2))]" \
    "$dir/monmap" >/dev/null
  ceph-mon -i a --mkfs --monmap "$dir/monmap" --keyring "$dir/keyring"
  ceph-mon -i a
  timeout 60 ceph auth import -i "$dir/keyring" >/dev/null 2>&1
  timeout 60 ceph osd new "$osd" 0 >/dev/null
  ceph-osd -i 0 --mkfs --osd-uuid "$osd" >/dev/null 2>&1
  ceph-osd -i 0 >/dev/null 2>&1
  radosgw -n client.rgw
  timeout 60 radosgw-admin -n client.rgw user create --uid test --display-name test \
    --access-key test --secret-key testtest >/dev/null 2>&1
  local try
  for try in $(seq 240); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return
    sleep 0.25
  done
  echo "ceph.sh: the gateway does not answer on port $port; see $dir/*.log" >&2
  exit 1
}

down() { # DIR
  local dir=$1 file pid
  [[ -f $dir/ceph.conf ]] || return 0
  for file in "$dir"/*.pid; do
    pid=$(cat "$file" 2>/dev/null) || continue
    if grep -qz "^ceph-\|^radosgw" "/proc/$pid/cmdline" 2>/dev/null; then
      kill -9 "$pid" 2>/dev/null || true # in memory only: there is nothing to flush
    fi
  done
  rm -rf "$dir"
}

case ${1:-} in
install) install ;;
up) up "${2:-}" "${3:-7480}" "${4:-}" ;;
down) down "${2:-}" ;;
*) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
