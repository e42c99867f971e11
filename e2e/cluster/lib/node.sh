#!/usr/bin/env bash
# PID 1 of the namespaces: mounts and network, then the components in order; after that it reaps, and stops and starts
# components when asked to. Only `up` calls it, and waits for $RUN/ready or $RUN/failed.
set -Eeuo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$HERE/lib/common.sh"
source "$HERE/lib/pki.sh"
export PATH=$CLUSTER_PATH:/usr/sbin:/usr/bin:/sbin:/bin
export KUBECONFIG=$PKI/admin.kubeconfig KUBECACHEDIR=$RUN/kubectl-cache

declare -A PIDS=() COMMANDS=()
# The end of PID 1 is the end of every process in the namespaces.
fail() { echo "$*" >"$RUN/failed"; exit 1; }
trap 'fail "lib/node.sh line $LINENO: $BASH_COMMAND (see $RUN/log/node.log)"' ERR
mark() { echo "$(($(millis) - CLUSTER_T0)) $*" >>"$RUN/times"; }

# start NAME CMD…: starts a component and remembers its command line for `start-component`.
start() {
  local name=$1
  shift
  COMMANDS[$name]=$(printf '%q ' "$@")
  launch "$name"
}

launch() {
  local -a command
  eval "command=(${COMMANDS[$1]})"
  "${command[@]}" >>"$RUN/log/$1.log" 2>&1 {CONTROL}>&- &
  PIDS[$1]=$!
  echo "$!" >"$RUN/components/$1"
}

# until_true SECONDS WHAT CMD…: polls CMD; fails when the time is up or a component has ended.
until_true() {
  local name what=$2 end=$(($(millis) + $1 * 1000))
  shift 2
  until "$@" >/dev/null 2>&1; do
    for name in "${!PIDS[@]}"; do
      kill -0 "${PIDS[$name]}" 2>/dev/null || fail "$name ended: $(tail -n 1 "$RUN/log/$name.log" | cut -c1-300)"
    done
    [[ $(millis) -lt $end ]] || fail "$what: not within the time"
    sleep 0.1
  done
}

# The cgroup namespace has the cluster's own cgroups as its roots, so the kubelet's "/" is ours.
mount_cgroups() {
  local folder hierarchy options alias controller
  if [[ $CGROUP_MODE == v1 ]]; then
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    while read -r folder; do
      hierarchy=${folder#/sys/fs/cgroup/}
      hierarchy=${hierarchy%%/*}
      mkdir "/sys/fs/cgroup/$hierarchy"
      options=$hierarchy
      [[ $hierarchy != systemd ]] || options=none,name=systemd
      mount -t cgroup -o "$options" cgroup "/sys/fs/cgroup/$hierarchy"
      for alias in ${hierarchy//,/ }; do
        [[ -e /sys/fs/cgroup/$alias ]] || ln -s "$hierarchy" "/sys/fs/cgroup/$alias"
      done
    done <"$RUN/cgroups"
    return
  fi
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  mkdir /sys/fs/cgroup/init
  echo $$ >/sys/fs/cgroup/init/cgroup.procs
  # Only a cgroup without processes can hand controllers on; `up` moves the last one away.
  # shellcheck disable=SC2016
  until_true 5 "an empty cgroup2 root" bash -c '[[ -z $(</sys/fs/cgroup/cgroup.procs) ]]'
  for controller in $(</sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control || true
  done
}

# The kubelet insists on values of sysctls that belong to the whole kernel: it finds them in place, in files mounted
# over the real ones. Of the others, only the network's (they are the namespace's own) can be written.
mount_sysctls() {
  local pair file
  mount --bind /proc/sys /proc/sys
  mount -o remount,bind,ro /proc/sys
  mount --bind /proc/sys/net /proc/sys/net
  mount -o remount,bind,rw /proc/sys/net
  for pair in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    file=$RUN/sysctl/${pair%=*}
    mkdir -p "${file%/*}"
    echo "${pair#*=}" >"$file"
    mount --bind "$file" "/proc/sys/${pair%=*}"
  done
}

mount_all() {
  mount --make-rshared /
  mount -t proc proc /proc
  mount -t sysfs sysfs /sys
  readlink /proc/self/ns/pid >"$RUN/namespace"
  mount_cgroups
  mount_sysctls
  mount -t tmpfs -o mode=755 tmpfs /run
  mkdir -p /run/netns /run/lock "$RUN"/{var-log,var-lib,containerd,etcd,cni.d}
  mount --bind "$RUN/var-log" /var/log
  mount --bind "$RUN/var-lib" /var/lib
  mkdir -p /var/lib/kubelet /var/lib/cni
}

# A bridge without ports carries the node's address. Pods get a pair of interfaces each and a route to them (ptp), so
# all that they send is routed, and a Service reaches a pod of the same node without the module br_netfilter. The
# default route is there because the kernel looks for a route to a Service's address before that is rewritten.
set_up_network() {
  hostname "$NODE"
  ip link set lo up
  ip link add node0 type bridge
  ip addr add "$NODE_IP/24" dev node0
  ip link set node0 up
  ip route add default dev node0
  echo 1 >/proc/sys/net/ipv4/ip_forward
}

start_etcd() {
  local client=http://127.0.0.1:2379 peer=http://127.0.0.1:2380
  start etcd etcd --name="$NODE" --data-dir="$RUN/etcd" --unsafe-no-fsync --log-level=warn \
    --listen-client-urls="$client" --advertise-client-urls="$client" \
    --listen-peer-urls="$peer" --initial-advertise-peer-urls="$peer" --initial-cluster="$NODE=$peer"
}

start_api_server() {
  start kube-apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 \
    --advertise-address="$NODE_IP" --secure-port=6443 --service-cluster-ip-range="$SERVICE_CIDR" \
    --allow-privileged=true --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --client-ca-file="$PKI/ca.crt" --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" \
    --kubelet-client-certificate="$PKI/apiserver-kubelet-client.crt" \
    --kubelet-client-key="$PKI/apiserver-kubelet-client.key" \
    --kubelet-certificate-authority="$PKI/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --requestheader-client-ca-file="$PKI/ca.crt" --requestheader-allowed-names=front-proxy-client \
    --requestheader-extra-headers-prefix=X-Remote-Extra- --requestheader-group-headers=X-Remote-Group \
    --requestheader-username-headers=X-Remote-User \
    --proxy-client-cert-file="$PKI/front-proxy-client.crt" --proxy-client-key-file="$PKI/front-proxy-client.key" \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file="$PKI/service-account.pub" --service-account-signing-key-file="$PKI/service-account.key"
}

# Debian's libraries: runc, which inherits the variable, needs libseccomp.
start_containerd() {
  # An overlay cannot be stacked on another one.
  SNAPSHOTTER=overlayfs
  [[ $(stat -fc %T "$RUN") != overlayfs ]] || SNAPSHOTTER=native
  render "$HERE/config/containerd.toml" >"$RUN/containerd.toml"
  render "$HERE/config/cni.conflist" >"$RUN/cni.d/10-pods.conflist"
  start containerd env LD_LIBRARY_PATH="$DEBIAN_LIBS" "$DEBIAN/usr/bin/containerd" --config "$RUN/containerd.toml"
  until_true 20 containerd "${CTR[@]}" version
  "${CTR[@]}" images import "$IMAGES/pause.tar" >"$RUN/log/import.log" 2>&1 ||
    fail "the pause image: $(tail -n 1 "$RUN/log/import.log")"
}

# One client for all controllers, with a high rate limit: with one each, they start one by one for five seconds.
# The node's lease gets old while a test has the API server down. With the default of 50 s the node would be marked
# unreachable, and its endpoints unready, in the moment in which the API server is back.
start_controllers() {
  local config
  start kube-controller-manager kube-controller-manager \
    --kubeconfig="$PKI/admin.kubeconfig" --use-service-account-credentials=false \
    --authentication-kubeconfig="$PKI/kube-controller-manager.kubeconfig" \
    --authorization-kubeconfig="$PKI/kube-controller-manager.kubeconfig" \
    --kube-api-qps=200 --kube-api-burst=400 --leader-elect=false \
    --bind-address=127.0.0.1 --client-ca-file="$PKI/ca.crt" \
    --service-account-private-key-file="$PKI/service-account.key" --root-ca-file="$PKI/ca.crt" \
    --cluster-signing-cert-file="$PKI/ca.crt" --cluster-signing-key-file="$PKI/ca.key" \
    --cluster-cidr="$POD_CIDR" --allocate-node-cidrs=false --node-monitor-grace-period=1h \
    --horizontal-pod-autoscaler-sync-period=3s --horizontal-pod-autoscaler-cpu-initialization-period=20s \
    --horizontal-pod-autoscaler-initial-readiness-delay=5s
  config=$PKI/kube-scheduler.kubeconfig
  start kube-scheduler kube-scheduler --kubeconfig="$config" --leader-elect=false --bind-address=127.0.0.1 \
    --authentication-kubeconfig="$config" --authorization-kubeconfig="$config"
}

# kube-proxy runs nft, which needs Debian's libnftables.
start_node() {
  echo "nameserver $DNS_IP" >"$RUN/resolv.conf"
  render "$HERE/config/kubelet.yaml" >"$RUN/kubelet.yaml"
  render "$HERE/config/kube-proxy.yaml" >"$RUN/kube-proxy.yaml"
  start kubelet kubelet --config="$RUN/kubelet.yaml" --kubeconfig="$PKI/node.kubeconfig" \
    --hostname-override="$NODE" --node-ip="$NODE_IP" --root-dir=/var/lib/kubelet
  start kube-proxy env LD_LIBRARY_PATH="$DEBIAN_LIBS" kube-proxy --config="$RUN/kube-proxy.yaml"
}

node_ready() {
  local path='{.status.conditions[?(@.type=="Ready")].status}'
  [[ $(kubectl get node "$NODE" -o jsonpath="$path") == True ]]
}

# obey VERB NAME: does what `request` (lib/use.sh) asks for and prints `ok`, or why not.
obey() {
  local verb=$1 name=$2 pid=${PIDS[$2]:-}
  [[ -n ${COMMANDS[$name]:-} ]] || { echo "there is no component '$name' (${!COMMANDS[*]})"; return; }
  if [[ $verb == start ]]; then
    [[ -z $pid ]] || { echo "$name is running"; return; }
    launch "$name"
  else
    [[ -n $pid ]] || { echo "$name is not running"; return; }
    case $verb in
      kill)
        unset "PIDS[$name]"
        kill -KILL "$pid"
        wait "$pid" 2>/dev/null
        echo killed >"$RUN/components/$name"
        ;;
      pause) kill -STOP "$pid" ;;
      resume) kill -CONT "$pid" ;;
    esac
  fi
  echo ok
}

# Serves requests until the namespaces end. The shell reaps; a component that ends on its own is noted.
serve() {
  local id verb name
  while true; do
    if read -r -t 1 -u "$CONTROL" id verb name; then
      obey "$verb" "$name" >"$RUN/answers/$id.new"
      mv "$RUN/answers/$id.new" "$RUN/answers/$id"
    fi
    for name in "${!PIDS[@]}"; do
      if ! kill -0 "${PIDS[$name]}" 2>/dev/null; then
        echo "$name has ended" >>"$RUN/warnings"
        echo ended >"$RUN/components/$name"
        unset "PIDS[$name]"
      fi
    done
  done
}

mkdir "$RUN/components" "$RUN/answers"
mkfifo "$RUN/control"
exec {CONTROL}<>"$RUN/control"

mount_all
set_up_network
mark namespaces
pki
mark certificates
start_etcd
start_api_server
start_containerd
mark containerd
until_true 60 "the API server" kubectl get --raw /readyz
mark kube-apiserver
start_controllers
start_node
until_true 60 "the node" node_ready
mark "node ready"
touch "$RUN/ready"

trap - ERR
set +e
serve
