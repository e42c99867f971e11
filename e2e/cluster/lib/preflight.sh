# shellcheck shell=bash
# What the machine must have. Each thing that is missing is one line and exit status 77.

need_commands() {
  local name
  for name in "$@"; do command -v "$name" >/dev/null || skip "the command '$name' is missing"; done
}

# has_capability BIT: whether the process has it in effect.
has_capability() {
  local mask
  mask=$(awk '/^CapEff/ {print $2}' /proc/self/status)
  (((16#$mask >> $1) & 1))
}

# The folder of the v1 hierarchy that has this controller.
v1_mount() {
  local folder
  for folder in "/sys/fs/cgroup/$1" /sys/fs/cgroup/*,"$1" /sys/fs/cgroup/"$1",*; do
    [[ -e $folder/cgroup.procs ]] && { echo "$folder"; return; }
  done
  return 1
}

# Prints v1 or v2: which one has the controllers that the kubelet needs.
cgroup_mode() {
  local name missing=()
  for name in cpu cpuacct cpuset memory pids devices freezer systemd; do
    if ! grep -Eq "^[0-9]+:([^:]*,|name=)?$name(,[^:]*)?:" /proc/self/cgroup || ! v1_mount "$name" >/dev/null; then
      missing+=("$name")
    fi
  done
  if [[ ${#missing[@]} == 0 ]]; then echo v1; return; fi
  if [[ $(stat -fc %T /sys/fs/cgroup 2>/dev/null) == cgroup2fs ]]; then
    for name in cpu cpuset memory pids; do
      grep -qw "$name" /sys/fs/cgroup/cgroup.controllers || skip "cgroup2 without the controller '$name'"
    done
    echo v2
    return
  fi
  skip "no cgroup2 on /sys/fs/cgroup, and of cgroup v1 these are missing: ${missing[*]}"
}

# try_cgroup_mount OPTION…: whether new namespaces can mount the cgroups that their pods will be in.
try_cgroup_mount() {
  unshare --cgroup --mount --net --pid --fork mount "$@" cgroup /sys/fs/cgroup 2>/dev/null
}

preflight_common() {
  [[ $(uname -sm) == "Linux x86_64" ]] || skip "it is made for Linux on x86_64"
}

preflight_up() {
  preflight_common
  [[ $(id -u) == 0 ]] || skip "not root"
  has_capability 21 || skip "no CAP_SYS_ADMIN"
  has_capability 12 || skip "no CAP_NET_ADMIN"
  need_commands unshare nsenter setsid flock mount ip openssl python3 base64
  unshare --cgroup --mount --net --pid --fork --ipc --uts true 2>/dev/null ||
    skip "new cgroup, mount, net, pid, ipc and uts namespaces are refused"
  unshare --net ip link add br0 type bridge 2>/dev/null || skip "the kernel has no bridge device"
  unshare --net ip link add v0 type veth peer name v1 2>/dev/null || skip "the kernel has no veth device"
  CGROUP_MODE=$(cgroup_mode) || exit 77
  export CGROUP_MODE
  # "Root" of a container or of a user namespace may have all of the above and still not this.
  case $CGROUP_MODE in
    v1) try_cgroup_mount -t cgroup -o "$(basename "$(v1_mount memory)")" ;;
    v2) try_cgroup_mount -t cgroup2 ;;
  esac || skip "a cgroup hierarchy cannot be mounted in new namespaces"
}

# What a compiler of Go needs; Debian's packages and the pause image need more.
preflight_go() {
  preflight_common
  need_commands go python3 flock nice
}

preflight_packages() {
  preflight_common
  [[ $(id -u) == 0 ]] || skip "not root"
  need_commands cc apt-get dpkg
}

cmd_check() {
  preflight_up
  preflight_go
  is_complete >/dev/null || preflight_packages
  say "this machine can run it (cgroup $CGROUP_MODE)"
}
