# shellcheck shell=bash
# build: gets or compiles every binary once, and makes the addons' images. What was done has a stamp (versions, flags,
# the compiler's version); with the same stamp there is nothing to do.

TOOLS=$HERE/tools
MKIMAGE=$HERE/../../.ci/mkimage.py
JOBS=${CLUSTER_BUILD_JOBS:-$(nproc)}
BASE=(debian pause kubernetes helm)
ADDONS=(adapter coredns keda metrics-server prometheus)
# With it, the modules are downloaded and nothing is compiled.
FETCH_ONLY=

hash_of() { cat "$@" | sha256sum | cut -c1-16; }

# is_fresh NAME STAMP FILE: whether FILE was made with the same stamp. Otherwise the stamp goes before the work begins,
# so that half of a file is never taken for the whole.
is_fresh() {
  local file=$CLUSTER_HOME/stamps/$1
  if [[ -e $3 && -e $file && $(<"$file") == "$2" ]]; then
    [[ -n $FETCH_ONLY ]] || CACHED+=("$1")
    return 0
  fi
  [[ -n $FETCH_ONLY ]] || rm -f "$file"
  return 1
}

# step NAME STAMP FILE CMD…: makes FILE unless it is fresh.
step() {
  local name=$1 stamp=$2 start
  is_fresh "$1" "$2" "$3" && return 0
  [[ -z $FETCH_ONLY ]] || return 0
  shift 3
  start=$(millis)
  "$@" || die "$name failed"
  echo "$stamp" >"$CLUSTER_HOME/stamps/$name"
  say "$name: done in $(seconds_since "$start")"
}

# The version that a module below tools/ pins: version_in helm helm.sh/helm/v3
version_in() {
  awk -v module="$2" '$1 == "require" && $2 == module {print $3} $1 == module {print $2}' "$TOOLS/$1/go.mod" |
    head -n 1
}

# binary_name PACKAGE FOLDER: what the go command calls the binary of a package.
binary_name() {
  local path=$1
  [[ $path != . ]] || path=$(awk '$1 == "module" {print $2}' "$2/go.mod")
  [[ ! ${path##*/} =~ ^v[0-9]+$ ]] || path=${path%/*}
  echo "${path##*/}"
}

# go_binaries FOLDER LDFLAGS TAGS OUT=PACKAGE…: static binaries from a module. Those that are not fresh are compiled by
# one command, so that what they have in common keeps all cores busy and the linking of one goes beside the rest.
# There is no -trimpath: with it, the same source is compiled again for each module that asks for another version of it
# and gets this one by a replacement. No debug information either, which the linker would only throw away.
go_binaries() {
  local folder=$1 ldflags="-s -w $2" tags=$3 pair out package stamp start
  local -a sources outs=() packages=() stamps=()
  shift 3
  for pair in "$@"; do
    out=${pair%%=*} package=${pair#*=}
    sources=("$folder/go.mod" "$folder/go.sum")
    [[ $package != . ]] || sources+=("$folder"/*.go)
    stamp="$(hash_of "${sources[@]}") $GO_VERSION $package [$ldflags] [$tags]"
    is_fresh "$out" "$stamp" "$BIN/$out" && continue
    outs+=("$out") packages+=("$package") stamps+=("$stamp")
  done
  [[ ${#outs[@]} -gt 0 ]] || return 0
  # The collector of the compiler has nothing to save: a package's memory is given back when its process ends.
  local -a environment=(CGO_ENABLED=0 GOOS=linux GOARCH=amd64 GOFLAGS=-mod=readonly "GOGC=${GOGC:-400}")
  if [[ -n $FETCH_ONLY ]]; then
    env -C "$folder" "${environment[@]}" go list -tags "$tags" -deps "${packages[@]}" >/dev/null
    return
  fi
  say "${outs[*]}: compiling with $JOBS jobs"
  start=$(millis)
  rm -rf "$BIN/new"
  env -C "$folder" "${environment[@]}" nice -n 19 go build -p "$JOBS" -buildvcs=false -gcflags=all=-dwarf=false \
    -tags "$tags" -ldflags "$ldflags" -o "$BIN/new/" "${packages[@]}" || die "${outs[*]}: the build failed"
  for pair in "${!outs[@]}"; do
    mv "$BIN/new/$(binary_name "${packages[$pair]}" "$folder")" "$BIN/${outs[$pair]}"
    echo "${stamps[$pair]}" >"$CLUSTER_HOME/stamps/${outs[$pair]}"
  done
  rmdir "$BIN/new"
  say "${outs[*]}: done in $(seconds_since "$start")"
}

# image FILE NAME:TAG BINARY: the image that an addon's manifest names; the binary is its entrypoint.
image() {
  local file=$IMAGES/addons/$1.tar
  [[ -z $FETCH_ONLY ]] || return 0
  step "image-$1" "$2 $(hash_of "$MKIMAGE" "$BIN/$3")" "$file" python3 "$MKIMAGE" --tmp "$file" "$2" "$BIN/$3"
}

# No maintainer script runs: the packages are unpacked. runc and nft take their libraries from there too.
DEBIAN_PACKAGES=(containerd runc containernetworking-plugins nftables
  libnftables1 libnftnl11 libmnl0 libjansson4 libedit2 libbsd0 libgmp10 libxtables12 libseccomp2)
unpack_debian() {
  local folder file check
  preflight_packages
  folder=$(mktemp -d "$CLUSTER_HOME/debs.XXXXXX")
  apt-get -qq update || return 1
  (cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download "${DEBIAN_PACKAGES[@]}") || return 1
  rm -rf "$DEBIAN"
  mkdir -p "$DEBIAN"
  for file in "$folder"/*.deb; do dpkg -x "$file" "$DEBIAN" || return 1; done
  rm -rf "$folder"
  for check in "usr/bin/containerd --version" "usr/sbin/runc --version" "usr/sbin/nft --version"; do
    # shellcheck disable=SC2086
    LD_LIBRARY_PATH=$DEBIAN_LIBS "$DEBIAN"/$check >/dev/null || return 1
  done
}

build_debian() {
  # shellcheck disable=SC1091
  step debian-packages "$(. /etc/os-release; echo "$VERSION_ID ${DEBIAN_PACKAGES[*]}")" "$DEBIAN/usr/lib/cni/ptp" \
    unpack_debian
}

make_pause() {
  command -v cc >/dev/null || skip "the command 'cc' is missing"
  cc -Os -static -nostdlib -ffreestanding -fno-stack-protector -o "$BIN/pause" "$HERE/src/pause.c" &&
    python3 "$MKIMAGE" "$IMAGES/pause.tar" localhost/pause:1 "$BIN/pause"
}

build_pause() { step pause-image "$(hash_of "$HERE/src/pause.c" "$MKIMAGE")" "$IMAGES/pause.tar" make_pause; }

build_kubernetes() {
  local version ldflags package=k8s.io/component-base/version name
  local -a binaries=()
  version=$(version_in . k8s.io/kubernetes)
  for name in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
    binaries+=("$name=k8s.io/kubernetes/cmd/$name")
  done
  [[ $version =~ ^v([0-9]+)\.([0-9]+) ]]
  ldflags="-X $package.gitVersion=$version"
  ldflags+=" -X $package.gitMajor=${BASH_REMATCH[1]} -X $package.gitMinor=${BASH_REMATCH[2]}"
  go_binaries "$TOOLS" "$ldflags" "" "${binaries[@]}"
  go_binaries "$TOOLS" "" "" etcd=go.etcd.io/etcd/server/v3
}

build_helm() {
  go_binaries "$TOOLS/helm" "-X helm.sh/helm/v3/internal/version.version=$(version_in helm helm.sh/helm/v3)" "" \
    helm=helm.sh/helm/v3/cmd/helm
}

build_metrics-server() {
  go_binaries "$TOOLS/metrics-server" "" "" metrics-server=sigs.k8s.io/metrics-server/cmd/metrics-server
  image metrics-server "localhost/metrics-server:$(version_in metrics-server sigs.k8s.io/metrics-server)" metrics-server
}

build_coredns() {
  go_binaries "$TOOLS/coredns" "" "" coredns=.
  image coredns "localhost/coredns:$(version_in coredns github.com/coredns/coredns)" coredns
}

build_prometheus() {
  # Without the web interface and with one service discovery only.
  go_binaries "$TOOLS/prometheus" "" remove_all_sd,enable_kubernetes_sd \
    prometheus=github.com/prometheus/prometheus/cmd/prometheus promtool=github.com/prometheus/prometheus/cmd/promtool
  image prometheus "localhost/prometheus:$(version_in prometheus github.com/prometheus/prometheus)" prometheus
}

build_adapter() {
  go_binaries "$HERE/adapter" "" "" custom-metrics-adapter=.
  image adapter localhost/custom-metrics-adapter:1 custom-metrics-adapter
}

build_keda() {
  local version folder
  version=$(version_in keda github.com/kedacore/keda/v2)
  go_binaries "$TOOLS/keda" "-X=github.com/kedacore/keda/v2/version.Version=$version" "" \
    keda=github.com/kedacore/keda/v2/cmd/operator keda-adapter=github.com/kedacore/keda/v2/cmd/adapter
  image keda "localhost/keda:$version" keda
  image keda-adapter "localhost/keda-adapter:$version" keda-adapter
  [[ -z $FETCH_ONLY ]] || return 0
  # The CRDs and manifests come with the Go module.
  folder=$(env -C "$TOOLS/keda" go list -m -f '{{.Dir}}' github.com/kedacore/keda/v2)
  rm -rf "$CLUSTER_HOME/keda-config"
  cp -r "$folder/config" "$CLUSTER_HOME/keda-config"
  chmod -R u+w "$CLUSTER_HOME/keda-config"
}

cmd_build() {
  local targets=("${BASE[@]}") names target start fetch=
  while [[ $# -gt 0 ]]; do
    case $1 in
      --with) IFS=, read -ra names <<<"${2:-}"; targets=("${BASE[@]}" "${names[@]}"); shift ;;
      --only) IFS=, read -ra targets <<<"${2:-}"; shift ;;
      --fetch) fetch=yes ;;
      *) die "build: unknown argument '$1'" ;;
    esac
    shift
  done
  for target in "${targets[@]}"; do
    [[ " ${BASE[*]} ${ADDONS[*]} " == *" $target "* ]] ||
      die "build: '$target' is not one of ${BASE[*]} ${ADDONS[*]}"
  done
  preflight_go
  start=$(millis)
  GO_VERSION=$(go env GOVERSION)
  mkdir -p "$BIN" "$IMAGES/addons" "$CLUSTER_HOME/stamps"
  if [[ -n $fetch ]]; then
    FETCH_ONLY=yes
    for target in "${targets[@]}"; do "build_$target"; done
    return
  fi
  exec 8>"$CLUSTER_HOME/build.lock"
  flock -n 8 || { say "another build is under way; waiting for it"; flock 8; }
  CACHED=()
  # The modules of what comes later are downloaded while the first is compiled. A failure here shows again there.
  (FETCH_ONLY=yes; for target in "${targets[@]}"; do "build_$target"; done) >/dev/null 2>&1 8>&- &
  for target in "${targets[@]}"; do "build_$target"; done
  wait
  [[ ${#CACHED[@]} == 0 ]] || say "cached: ${CACHED[*]}"
  say "built in $(seconds_since "$start"); $CLUSTER_HOME holds $(du -sh --exclude=run "$CLUSTER_HOME" | cut -f1)"
}

# Fails and prints what is missing unless all is there that `up` needs.
is_complete() {
  local file
  for file in "$BIN"/{etcd,kube-apiserver,kube-controller-manager,kube-scheduler,kubelet,kube-proxy,kubectl,helm} \
    "$DEBIAN"/usr/{bin/containerd,bin/ctr,bin/containerd-shim-runc-v2,sbin/runc,sbin/nft,lib/cni/ptp} \
    "$IMAGES/pause.tar"; do
    [[ -e $file ]] || { echo "$file"; return 1; }
  done
}
