# shellcheck shell=bash
# pki: one CA, the certificates of the components and their kubeconfigs, in $PKI.

KEY=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)

# certificate NAME SUBJECT [SAN]
certificate() {
  openssl req "${KEY[@]}" -subj "$2" -keyout "$1.key" -out "$1.csr" 2>/dev/null
  {
    echo "keyUsage=digitalSignature"
    echo "extendedKeyUsage=serverAuth,clientAuth"
    [[ -z ${3:-} ]] || echo "subjectAltName=$3"
  } >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -extfile "$1.ext" -out "$1.crt" \
    2>/dev/null
  rm "$1.csr" "$1.ext"
}

# kubeconfig NAME SERVER: with everything in it, so that the file can be copied.
kubeconfig() {
  cat <<YAML
apiVersion: v1
kind: Config
clusters:
- name: cluster
  cluster: {server: "$2", certificate-authority-data: "$(base64 -w0 "$PKI/ca.crt")"}
users:
- name: $1
  user:
    client-certificate-data: "$(base64 -w0 "$PKI/$1.crt")"
    client-key-data: "$(base64 -w0 "$PKI/$1.key")"
contexts:
- name: cluster
  context: {cluster: cluster, user: $1}
current-context: cluster
YAML
}

pki() (
  umask 077
  mkdir -p "$PKI" && cd "$PKI" || return
  openssl req -x509 "${KEY[@]}" -days 365 -subj /CN=cluster-ca -keyout ca.key -out ca.crt 2>/dev/null
  local service=kubernetes.default.svc names user
  names=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:$service,DNS:$service.cluster.local
  certificate apiserver /CN=kube-apiserver "$names,IP:127.0.0.1,IP:$NODE_IP,IP:$API_SERVICE_IP"
  certificate node "/O=system:nodes/CN=system:node:$NODE" "DNS:$NODE,IP:$NODE_IP"
  certificate apiserver-kubelet-client /O=system:masters/CN=apiserver-kubelet-client
  certificate front-proxy-client /CN=front-proxy-client
  certificate admin /O=system:masters/CN=admin
  for user in kube-controller-manager kube-scheduler kube-proxy; do certificate "$user" "/CN=system:$user"; done
  openssl genrsa -out service-account.key 2048 2>/dev/null
  openssl rsa -in service-account.key -pubout -out service-account.pub 2>/dev/null
  for user in admin kube-controller-manager kube-scheduler kube-proxy node; do
    kubeconfig "$user" https://127.0.0.1:6443 >"$user.kubeconfig"
  done
)
