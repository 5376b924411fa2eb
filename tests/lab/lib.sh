# Sourced by the lab's scripts: names, places, addresses and the few helpers
# they share. Nothing here starts or changes anything.
# shellcheck shell=bash disable=SC2034

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
LAB=$ROOT/tests/lab
CACHE=$ROOT/target/lab-cache
LOGS=$ROOT/target/lab-logs
# The lab's python is the distribution's, whatever a version manager puts first.
PYTHON=/usr/bin/python3

# More than one lab can be up at a time; every name and place derives from this.
LAB_NAME=${LAB_NAME:-main}
[[ $LAB_NAME =~ ^[a-z0-9]{1,12}$ ]] || {
  echo "LAB_NAME must be 1 to 12 of a-z0-9: $LAB_NAME" >&2
  exit 2
}
# The suites that have a guest image in profile full, beside bookworm.
LAB_SUITES=${LAB_SUITES-trixie}
# A suite of Debian whose libvirt and QEMU the lab has, in a root of their own
# (tests/lab/libvirt-root); empty: the machine's.
LAB_LIBVIRT=${LAB_LIBVIRT-}
# "modular": virtqemud and its like of that suite, compiled (tests/lab/libvirt-daemons),
# in the place of libvirtd; empty: libvirtd.
LAB_DAEMONS=${LAB_DAEMONS-}
# Patroni's version. From 4.1 on it has five workers for its REST API, and
# `before_stop` comes when it already says that it stops; 3.0 has neither.
PATRONI_VERSION=${LAB_PATRONI:-4.1.5}
# Seconds between its "stopping" and the end of PostgreSQL. An emulated guest,
# beside others on two cores, takes longer than a real one to see the first.
BEFORE_STOP=${LAB_BEFORE_STOP:-1}
# Short, for a unix socket's path has at most 108 bytes.
LAB_RUN=/run/lbctl-lab/$LAB_NAME
# Not under the checkout: postgres must be able to walk to its data.
LAB_STATE=/var/lib/lbctl-lab/$LAB_NAME

NS=lbctl-$LAB_NAME
HOST_NS=$NS-host     # libvirtd: plays the KVM host
NET_NS=$NS-net       # the segment's switch, DNS and etcd
CLIENT_NS=$NS-client # whoever connects through the load balancer
NODE_NS=("$NS-pg1" "$NS-pg2" "$NS-pg3")

# The segment: nodes, DNS, client, macvtap guests.
SEGMENT=10.77.0
SEGMENT_PREFIX=24
SEGMENT_GATEWAY=$SEGMENT.1
DNS_IP=$SEGMENT.2
CLIENT_IP=$SEGMENT.50
NODE_IP=("$SEGMENT.11" "$SEGMENT.12" "$SEGMENT.13")
# The libvirt network, behind the host.
GUESTS=192.168.150
GUESTS_PREFIX=24
GUESTS_GATEWAY=$GUESTS.1
MACVTAP_DEV=lbmac0

DOMAIN=postgres.lab
POSTGRES_DOMAIN=server.$DOMAIN
PATRONI_PORT=4443
# The same REST API by TLS that asks for no certificate, and by plain HTTP.
PATRONI_TLS_PORT=8009
PATRONI_PLAIN_PORT=8008
# A bridge of the host with a DHCP server, which leads nowhere else.
DHCP_BRIDGE=br-dhcp
DHCP=10.78.0
# The segment's IPv6.
SEGMENT6=fd77:
# What stands for the world outside (tests/lab/outside), at DNS_IP.
PACKAGES_HOST=packages.$DOMAIN
REGISTRY_HOST=registry.$DOMAIN:5000
REGISTRY_USER=puller
REGISTRY_PASSWORD=pull:me#1
NTP_HOST=ntp.$DOMAIN
PROXY_HOST=proxy.$DOMAIN:3128
PG_SUPERUSER=postgres
PG_PASSWORD=lab-password
# The KVM host's sshd, which only the lab's own machines reach.
SSH_HOST=$SEGMENT_GATEWAY
SSH_PORT=2222
LIBVIRT_URI="qemu+unix:///system?socket=$LAB_RUN/libvirt-sock"

say() { printf '%s\n' "lab $LAB_NAME: $*" >&2; }
die() {
  say "$*"
  exit 1
}

need_root() { [ "$(id -u)" = 0 ] || die "must be root: it makes network namespaces and mounts"; }

# within SECONDS WHAT COMMAND...: waits until COMMAND succeeds.
within() {
  local limit=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $limit ] || die "waited in vain for $what"
    sleep 0.1
  done
}

# daemon NAMESPACE NAME COMMAND...: starts COMMAND in a session of its own, so
# that it outlives its starter; down finds it by its namespace. Without the
# starter's lock (100), which must end with the starter.
daemon() {
  local ns=$1 name=$2
  shift 2
  mkdir -p "$LAB_STATE/log"
  setsid ip netns exec "$ns" "$@" </dev/null >"$LAB_STATE/log/$name.log" 2>&1 100>&- &
}

in_ns() { ip netns exec "$@"; }
virsh_lab() { virsh -q -c "$LIBVIRT_URI" "$@"; }
# Under a name made of the recipe: the part of all suites, and that of this one.
image_path() (
  # shellcheck source=tests/lab/suites/trixie
  . "$LAB/suites/$1"
  key=$({ cat "$LAB/image" && echo "$1 $PACKAGES_HOST" && declare -p PLAIN EXPIRES GENERATORS UNITS MODULES; } | sha256sum)
  echo "$CACHE/image-$1-${key::16}.qcow2"
)
# The name of its volume in pool os.
volume_of() (
  # shellcheck source=tests/lab/suites/trixie
  . "$LAB/suites/$1"
  echo "$VOLUME"
)
packages_path() { image_path "$1" | sed 's|/image-\(.*\)\.qcow2$|/packages-\1|'; }
pg_bin() { find /usr/lib/postgresql -maxdepth 2 -name bin | sort -V | tail -1; }
