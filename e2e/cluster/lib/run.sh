# shellcheck shell=bash
# The life of a cluster: up, down, reap, status, logs.

# One child of our own cgroup in each hierarchy, so that the machine's limits stay in force.
make_cgroups() {
  local name
  name=cluster-$(sha256sum <<<"$RUN" | cut -c1-8)
  : >"$RUN/cgroups"
  if [[ $CGROUP_MODE == v1 ]]; then make_cgroups_v1 "$name"; else make_cgroup_v2 "$name"; fi
}

make_cgroups_v1() {
  local controllers path top folder
  while IFS=: read -r _ controllers path; do
    controllers=${controllers#name=}
    top=/sys/fs/cgroup/$controllers
    [[ -n $controllers && -e $top/cgroup.procs ]] || continue
    # Seen from within another cgroup namespace, the path may not be there.
    [[ -d $top$path ]] || path=
    folder=$top${path%/}/$1
    mkdir -p "$folder"
    if [[ ,$controllers, == *,cpuset,* ]]; then
      cat "$top$path/cpuset.cpus" >"$folder/cpuset.cpus"
      cat "$top$path/cpuset.mems" >"$folder/cpuset.mems"
      echo 1 >"$folder/cgroup.clone_children"
    fi
    echo "$folder" >>"$RUN/cgroups"
  done </proc/self/cgroup
}

# A cgroup with processes cannot hand controllers on: our own is taken if it does already, else the top one.
make_cgroup_v2() {
  local parent=/sys/fs/cgroup path controller
  path=$(sed -n 's/^0:://p' /proc/self/cgroup)
  if grep -qw memory "$parent$path/cgroup.subtree_control" 2>/dev/null; then parent=$parent${path%/}; fi
  for controller in cpu cpuset io memory pids; do
    grep -qw "$controller" "$parent/cgroup.subtree_control" ||
      echo "+$controller" 2>/dev/null >"$parent/cgroup.subtree_control" || [[ $controller == io ]] ||
      skip "the cgroup2 controller '$controller' cannot be delegated below $parent"
  done
  mkdir -p "$parent/$1/launcher"
  echo "$parent/$1" >"$RUN/cgroups"
}

remove_cgroups() {
  local folder
  [[ -e $RUN/cgroups ]] || return 0
  while read -r folder; do
    for _ in {1..25}; do
      [[ -d $folder ]] || break
      find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null && break
      sleep 0.1
    done
    [[ ! -d $folder ]] || echo "cluster: left behind: $folder" >&2
  done <"$RUN/cgroups"
}

# lock: nobody else starts or ends this cluster meanwhile. The lock ends with this process; `down` removes the file, so
# whoever waited for it looks whether it is still the one that others would take.
lock() {
  local file=$CLUSTER_HOME/run/$CLUSTER_NAME.lock
  mkdir -p "$CLUSTER_HOME/run"
  while true; do
    exec 9>"$file"
    flock "$@" 9 || return 1
    [[ ! $file -ef /proc/self/fd/9 ]] || return 0
  done
}

# Starts PID 1 of new namespaces and prints nothing; its id is in $RUN/pid then.
launch_namespaces() {
  local launcher pid
  # shellcheck disable=SC2016
  setsid bash -c '
    while read -r folder; do echo $$ >"$folder/cgroup.procs"; done <"$1/cgroups"
    exec unshare --cgroup --mount --propagation private --net --pid --fork --ipc --uts bash "$2"' \
    launcher "$RUN" "$HERE/lib/node.sh" </dev/null >"$RUN/log/node.log" 2>&1 9>&- &
  launcher=$!
  for _ in {1..200}; do
    pid=$(awk '{print $1}' "/proc/$launcher/task/$launcher/children" 2>/dev/null) || true
    [[ -z $pid ]] || break
    kill -0 "$launcher" 2>/dev/null || die "no namespaces: $(tail -n 1 "$RUN/log/node.log")"
    sleep 0.02
  done
  echo "$pid $(start_time "$pid")" >"$RUN/pid"
  [[ $CGROUP_MODE == v1 ]] || echo "$launcher" >"$(head -n 1 "$RUN/cgroups")/launcher/cgroup.procs"
  disown "$launcher"
}

cmd_up() {
  local missing end times owner=
  case ${1:-} in
    --owner)
      owner="${2:-} $(start_time "${2:-}")"
      [[ $owner =~ ^[0-9]+\ [0-9]+$ ]] || die "--owner: no process '${2:-}'"
      ;;
    "") ;;
    *) die "up [--owner PID]" ;;
  esac
  preflight_up
  missing=$(is_complete) || die "not built ($missing is missing): cluster build"
  lock -n || die "another up or down of '$CLUSTER_NAME' is under way"
  ! init_pid >/dev/null || die "'$CLUSTER_NAME' is up already"
  remove_cgroups
  rm -rf "$RUN"
  mkdir -p "$RUN/log"
  [[ -z $owner ]] || echo "$owner" >"$RUN/owner"
  CLUSTER_T0=$(millis)
  export CLUSTER_T0
  make_cgroups
  launch_namespaces
  end=$(($(millis) + ${CLUSTER_TIMEOUT:-120} * 1000))
  until [[ -e $RUN/ready ]]; do
    if [[ -e $RUN/failed ]] || ! init_pid >/dev/null || [[ $(millis) -gt $end ]]; then
      stop_processes
      remove_cgroups
      die "$(cat "$RUN/failed" 2>/dev/null || tail -n 1 "$RUN/log/node.log") (logs: $RUN/log)"
    fi
    sleep 0.05
  done
  times=$(awk '{t = $1; $1 = ""; printf "%s%s %.1f s", (NR > 1 ? "," : ""), $0, t / 1000}' "$RUN/times")
  say "'$CLUSTER_NAME' is up:$times"
}

# The end of PID 1 ends every process of the namespaces, and with them their mounts.
stop_processes() {
  local pid
  pid=$(init_pid) || return 0
  kill -KILL "$pid"
  for _ in {1..500}; do
    init_pid >/dev/null || return 0
    sleep 0.02
  done
  echo "cluster: process $pid does not end" >&2
}

cmd_down() {
  local start
  ! is_inside || die "down: not from inside"
  start=$(millis)
  lock
  if [[ ! -d $RUN ]]; then say "'$CLUSTER_NAME' is not up"; return; fi
  stop_processes
  remove_cgroups
  rm -rf "$RUN"
  rm -f "$CLUSTER_HOME/run/$CLUSTER_NAME.lock"
  say "'$CLUSTER_NAME' is down, $(seconds_since "$start")"
}

# A run that was killed could not clean up after itself; the next one does.
cmd_reap() {
  local file name
  for file in "$CLUSTER_HOME"/run/*/owner; do
    if [[ -e $file ]] && ! lives "$file" >/dev/null; then
      name=$(basename "$(dirname "$file")")
      CLUSTER_NAME=$name "$HERE/cluster" down
    fi
  done
}

cmd_status() {
  local name state pid
  is_up || { say "'$CLUSTER_NAME' is not up"; return 3; }
  [[ -e $RUN/ready ]] || { say "'$CLUSTER_NAME' is starting"; return 1; }
  say "'$CLUSTER_NAME' is up, logs in $RUN/log"
  for name in "$RUN"/components/*; do
    state=$(<"$name") pid=
    if [[ $state =~ ^[0-9]+$ ]]; then
      pid=$state
      # shellcheck disable=SC2016
      state=$(inside awk '/^State/ {state = $3} /^VmRSS/ {print int($2 / 1024) " MB " state}' "/proc/$pid/status") ||
        state=ended
    fi
    printf '  %-24s %s\n' "$(basename "$name")" "$state"
  done
  if [[ -s $RUN/warnings ]]; then sed 's/^/  warning: /' "$RUN/warnings"; fi
  inside kubectl --request-timeout=5s get nodes,pods -A -o wide
}

# logs FOLDER: what is worth keeping of a run that failed.
cmd_logs() {
  [[ $# == 1 ]] || die "logs FOLDER"
  [[ -d $RUN ]] || die "'$CLUSTER_NAME' is not up"
  mkdir -p "$1"
  cp -r "$RUN/log" "$1/components"
  [[ ! -d $RUN/var-log/pods ]] || cp -rL "$RUN/var-log/pods" "$1/pods"
  [[ ! -e $RUN/warnings ]] || cp "$RUN/warnings" "$1/"
  if is_up; then
    inside kubectl --request-timeout=5s get events -A --sort-by=.lastTimestamp >"$1/events.txt" 2>&1 || true
    cmd_status >"$1/status.txt" 2>&1 || true
  fi
}
