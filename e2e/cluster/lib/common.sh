# shellcheck shell=bash disable=SC2034
# Paths, addresses and small functions that all of the other files need. It only defines things.

die() { printf 'cluster: %s\n' "$*" >&2; exit 1; }
say() { printf 'cluster: %s\n' "$*"; }
# Exit status 77 is for a machine that cannot run it: whoever called can skip, with this line as the reason.
skip() { printf 'cluster: cannot run on this machine: %s\n' "$*" >&2; exit 77; }

millis() { local now=${EPOCHREALTIME/[.,]/}; echo $((now / 1000)); }
seconds_since() { local ms=$(($(millis) - $1)); printf '%d.%01d s' $((ms / 1000)) $((ms % 1000 / 100)); }

CLUSTER_HOME=${CLUSTER_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/baribhara-cluster}
CLUSTER_NAME=${CLUSTER_NAME:-default}
# Both end up unquoted in configuration files.
[[ $CLUSTER_HOME =~ ^/[A-Za-z0-9._/-]+$ ]] || die "CLUSTER_HOME must be an absolute path of A-Z a-z 0-9 . _ / -"
[[ $CLUSTER_NAME =~ ^[a-z0-9-]{1,32}$ ]] || die "CLUSTER_NAME must be of 1 to 32 characters a-z 0-9 -"

BIN=$CLUSTER_HOME/bin                # what `build` compiled
DEBIAN=$CLUSTER_HOME/debian          # Debian's packages, unpacked and not installed
IMAGES=$CLUSTER_HOME/images          # pause.tar, which `up` imports; addons/*.tar, for `addon`
RUN=$CLUSTER_HOME/run/$CLUSTER_NAME  # the state of a cluster that is up; `down` removes it
PKI=$RUN/pki

NODE=node0
NODE_IP=10.250.0.1
POD_CIDR=10.244.0.0/24
SERVICE_CIDR=10.96.0.0/16
API_SERVICE_IP=10.96.0.1
DNS_IP=10.96.0.10

DEBIAN_LIBS=$DEBIAN/usr/lib/x86_64-linux-gnu:$DEBIAN/lib/x86_64-linux-gnu
CLUSTER_PATH=$HERE:$BIN:$DEBIAN/usr/sbin:$DEBIAN/usr/bin
CTR=("$DEBIAN/usr/bin/ctr" --namespace k8s.io)

export CLUSTER_HOME CLUSTER_NAME

# render TEMPLATE: the file with @NAME@ replaced.
render() {
  sed -e "s|@RUN@|$RUN|g; s|@PKI@|$PKI|g; s|@DEBIAN@|$DEBIAN|g; s|@NODE@|$NODE|g; s|@NODE_IP@|$NODE_IP|g" \
    -e "s|@POD_CIDR@|$POD_CIDR|g; s|@DNS_IP@|$DNS_IP|g; s|@SNAPSHOTTER@|${SNAPSHOTTER:-overlayfs}|g" "$1"
}

# A process id may be used again; together with its start time it names one process.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# lives FILE: prints the process id that FILE holds with its start time, or fails if that process has ended.
lives() {
  local pid start
  [[ -e $1 ]] || return 1
  read -r pid start <"$1" || return 1
  [[ -n $start && $(start_time "$pid") == "$start" ]] || return 1
  echo "$pid"
}

# The process id, as seen from outside, of the cluster's PID 1.
init_pid() { lives "$RUN/pid"; }

# Whether this very process runs in the namespaces of the cluster.
is_inside() { [[ -e $RUN/namespace && $(readlink /proc/self/ns/pid) == "$(<"$RUN/namespace")" ]]; }

# The end of a cluster can only be seen from outside; whoever runs inside ends with it.
is_up() { is_inside || init_pid >/dev/null; }

# inside CMD…: runs CMD in the namespaces of the cluster, in the same working directory and environment. HOME, the
# file system and the caller's cgroups stay as they are, so that cargo and its like work as outside.
inside() {
  local pid
  local -x KUBECONFIG=$PKI/admin.kubeconfig KUBECACHEDIR=$RUN/kubectl-cache
  local -x CONTAINERD_NAMESPACE=k8s.io
  local -x HELM_CACHE_HOME=$RUN/helm/cache HELM_CONFIG_HOME=$RUN/helm/config HELM_DATA_HOME=$RUN/helm/data
  if is_inside; then
    "$@"
    return
  fi
  local -x PATH=$CLUSTER_PATH:$PATH
  pid=$(init_pid) || die "'$CLUSTER_NAME' is not up"
  # shellcheck disable=SC2016
  nsenter -t "$pid" -m -n -p -i -u -C -- bash -c 'cd "$0" 2>/dev/null; exec "$@"' "$PWD" "$@"
}
