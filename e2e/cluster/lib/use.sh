# shellcheck shell=bash
# What is done with a cluster that is up: images, addons, stopping components, ways in from outside.

# image-import FILE.tar…
cmd_image_import() {
  local file
  [[ $# -gt 0 ]] || die "image-import FILE.tar..."
  for file in "$@"; do
    inside "${CTR[@]}" images import "$(realpath "$file")" >/dev/null || die "image-import: $file was not taken"
  done
}

# wait_for_rollout NAMESPACE NAME…
wait_for_rollout() {
  local namespace=$1
  shift
  inside kubectl -n "$namespace" rollout status "${@/#/deployment/}" --timeout=120s >/dev/null
}

wait_for_api() { inside kubectl wait --for=condition=Available "apiservice/$1" --timeout=60s >/dev/null; }

# await_addon NAME: until what it brings answers.
await_addon() {
  case $1 in
    adapter) wait_for_rollout monitoring custom-metrics-adapter && wait_for_api v1beta2.custom.metrics.k8s.io ;;
    coredns) wait_for_rollout kube-system coredns ;;
    keda) wait_for_rollout keda keda-operator keda-metrics-apiserver && wait_for_api v1beta1.external.metrics.k8s.io ;;
    metrics-server) wait_for_rollout kube-system metrics-server && wait_for_api v1beta1.metrics.k8s.io ;;
    prometheus) wait_for_rollout monitoring prometheus ;;
  esac
}

# addon NAME…: all are applied, in this order, before the first is waited for.
cmd_addon() {
  local name file start
  [[ $# -gt 0 ]] || die "addon NAME... (${ADDONS[*]})"
  is_up || die "'$CLUSTER_NAME' is not up"
  start=$(millis)
  for name in "$@"; do
    [[ -e $IMAGES/addons/$name.tar ]] || die "addon: '$name' is not built: cluster build --with $name"
    for file in "$IMAGES/addons/$name.tar" "$IMAGES/addons/$name-adapter.tar"; do
      [[ ! -e $file ]] || cmd_image_import "$file"
    done
    if [[ $name == keda ]]; then
      apply_keda
    else
      inside kubectl apply -f "$HERE/addons/$name.yaml" >/dev/null
    fi
  done
  for name in "$@"; do
    await_addon "$name" || die "addon: '$name' is not ready"
    say "$name: ready after $(seconds_since "$start")"
  done
}

# KEDA's own kustomization, from its Go module, with local images and without the admission webhooks.
apply_keda() {
  local folder=$RUN/keda version
  version=$(awk '$1 == "require" && $2 == "github.com/kedacore/keda/v2" {print $3}' "$HERE/tools/keda/go.mod")
  rm -rf "$folder"
  mkdir "$folder"
  cp -r "$CLUSTER_HOME/keda-config" "$folder/config"
  sed "s|@VERSION@|$version|g" "$HERE/addons/keda.kustomization.yaml" >"$folder/kustomization.yaml"
  inside kubectl kustomize "$folder" >"$folder/keda.yaml"
  inside kubectl apply --server-side -f "$folder/keda.yaml" >/dev/null
}

# request VERB NAME: asks the cluster's PID 1 (lib/node.sh), which started the components, and waits until it is done.
request() {
  local id=$BASHPID-$RANDOM-$EPOCHREALTIME fifo answer
  [[ -n ${2:-} ]] || die "$1 NAME"
  is_up || die "'$CLUSTER_NAME' is not up"
  exec {fifo}<>"$RUN/control"
  echo "$id $1 $2" >&"$fifo"
  for _ in {1..1000}; do
    [[ ! -e $RUN/answers/$id ]] || break
    sleep 0.01
  done
  answer=$(cat "$RUN/answers/$id" 2>/dev/null) || die "$1 $2: no answer"
  rm -f "$RUN/answers/$id"
  [[ $answer == ok ]] || die "$1 $2: $answer"
}

cmd_kill() { request kill "$@"; }
cmd_pause() { request pause "$@"; }
cmd_resume() { request resume "$@"; }

cmd_start() {
  local start
  request start "$@"
  [[ $1 == kube-apiserver || $1 == etcd ]] || return 0
  start=$(millis)
  until inside kubectl --request-timeout=2s get --raw /readyz >/dev/null 2>&1; do
    [[ $(($(millis) - start)) -lt 60000 ]] || die "start-component $1: the API server is not ready within 60 s"
    sleep 0.05
  done
  say "the API server is ready $(seconds_since "$start") after the start of $1"
}

# relay [PORT [HOST:PORT]]
cmd_relay() {
  local port=${1:-0} target=${2:-127.0.0.1:6443} pid out
  pid=$(init_pid) || die "'$CLUSTER_NAME' is not up"
  [[ $port =~ ^[0-9]+$ && $target == *:* ]] || die "relay [PORT [HOST:PORT]]"
  out=$(mktemp "$RUN/relay.XXXXXX")
  setsid python3 "$HERE/lib/relay.py" "$pid" "$port" "${target%:*}" "${target##*:}" </dev/null >"$out" 2>"$out.log" &
  for _ in {1..100}; do
    [[ ! -s $out ]] || break
    kill -0 $! 2>/dev/null || die "relay: $(tail -n 1 "$out.log")"
    sleep 0.05
  done
  disown
  port=$(<"$out")
  rm -f "$out"
  if [[ $target == 127.0.0.1:6443 ]]; then
    source "$HERE/lib/pki.sh"
    (umask 077; kubeconfig admin "https://127.0.0.1:$port" >"$RUN/relay.kubeconfig")
  fi
  say "127.0.0.1:$port leads to $target inside, until \`down\`"
}

cmd_env() {
  init_pid >/dev/null || die "'$CLUSTER_NAME' is not up"
  [[ -e $RUN/relay.kubeconfig ]] || cmd_relay 0 >&2
  echo "export KUBECONFIG=$RUN/relay.kubeconfig"
  echo "export KUBECACHEDIR=$RUN/kubectl-cache-outside"
  echo "export PATH=$BIN:\$PATH"
}
