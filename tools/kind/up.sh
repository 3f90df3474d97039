#!/usr/bin/env bash
# Bring up a cluster for notebooks/params/kind.yaml: kind, Knative Serving, Kourier and the images.
#
#   tools/kind/up.sh [NAME]    NAME of the cluster, "qwenkit" by default; its context is kind-NAME
#
# Needs bash, curl, docker and kubectl. It may be repeated: what is there stays. tools/kind/down.sh
# removes the cluster. It changes no context: kubectl here always names its own.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=tools/kind/versions.env
source "$here/versions.env"
name=${1:-qwenkit}
params=$root/notebooks/params/kind.yaml
cache=$root/build/kind
mkdir -p "$cache"

sha256() { if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1; }

# fetch URL FILE SHA256: download once; a sum that is not stated is printed.
fetch() {
  [ -s "$2" ] || { curl -fsSL --retry 3 "$1" -o "$2.part" && mv "$2.part" "$2"; }
  local found
  found=$(sha256 "$2")
  if [ -z "$3" ]; then
    echo "sha256 of $(basename "$2"): $found (not stated in tools/kind/versions.env)" >&2
  elif [ "$found" != "$3" ]; then
    echo "$2 has sha256 $found, and tools/kind/versions.env says $3" >&2
    rm -f "$2"
    return 1
  fi
}

find_kind() {
  if command -v kind >/dev/null && [ "$(kind version -q)" = "${KIND_VERSION#v}" ]; then
    command -v kind
    return
  fi
  local system machine stated file url
  system=$(uname -s | tr '[:upper:]' '[:lower:]')
  machine=$(uname -m | sed -e 's/^x86_64$/amd64/' -e 's/^aarch64$/arm64/')
  file=$cache/kind-$KIND_VERSION-$system-$machine
  url=https://github.com/kubernetes-sigs/kind/releases/download/$KIND_VERSION/kind-$system-$machine
  case $system-$machine in
    linux-amd64) stated=$KIND_SHA256_LINUX_AMD64 ;;
    darwin-arm64) stated=$KIND_SHA256_DARWIN_ARM64 ;;
    *) stated=$(curl -fsSL "$url.sha256sum" | cut -d' ' -f1) ;;
  esac
  fetch "$url" "$file" "$stated" || return 1 # bash ends no function in $(…) by itself
  chmod +x "$file"
  echo "$file"
}

# setting NAME: the value of a key in the params file.
setting() { sed -n "s/^$1: *[\"']\{0,1\}\([^\"' #]*\).*/\1/p" "$params"; }

ktl() { kubectl --context "kind-$name" "$@"; }

# config NAME DATA: merge entries into one of Knative's ConfigMaps.
config() { ktl patch configmap "config-$1" -n knative-serving --type merge -p "{\"data\":$2}"; }

kind=$(find_kind)
if ! "$kind" get clusters | grep -qx "$name"; then
  "$kind" create cluster --name "$name" --image "$NODE_IMAGE" --config "$here/cluster.yaml" --wait 180s
fi

serving=https://github.com/knative/serving/releases/download/$KNATIVE_VERSION
kourier=https://github.com/knative-extensions/net-kourier/releases/download/$KOURIER_VERSION
fetch "$serving/serving-crds.yaml" "$cache/serving-crds-$KNATIVE_VERSION.yaml" "$SERVING_CRDS_SHA256"
fetch "$serving/serving-core.yaml" "$cache/serving-core-$KNATIVE_VERSION.yaml" "$SERVING_CORE_SHA256"
fetch "$kourier/kourier.yaml" "$cache/kourier-$KOURIER_VERSION.yaml" "$KOURIER_SHA256"
ktl apply -f "$cache/serving-crds-$KNATIVE_VERSION.yaml"
ktl wait --for=condition=Established --timeout=60s crd -l knative.dev/crd-install=true
ktl apply -f "$cache/serving-core-$KNATIVE_VERSION.yaml"
ktl apply -f "$cache/kourier-$KOURIER_VERSION.yaml"

# A small machine has no CPUs to reserve for what is idle most of the time. Their HPAs measure
# against these requests, but kind has no metrics server, so they do not act.
for space in knative-serving kourier-system; do
  ktl set resources deployment --all -n "$space" --requests=cpu=25m
done
for space in knative-serving kourier-system; do
  ktl wait --for=condition=Available --timeout=300s deployment --all -n "$space"
done

config network '{"ingress-class":"kourier.ingress.networking.knative.dev"}'
config domain '{"example.com":""}' # the default, svc.cluster.local, is served inside the cluster only
config features '{"kubernetes.podspec-persistent-volume-claim":"enabled","kubernetes.podspec-nodeselector":"enabled","kubernetes.podspec-tolerations":"enabled","kubernetes.podspec-runtimeclassname":"enabled"}'
ktl patch service kourier -n kourier-system --type strategic -p \
  '{"spec":{"type":"NodePort","ports":[{"name":"http2","port":80,"nodePort":31080}]}}'

# The image of the Job that fills the claim: built here, in no registry, so it is loaded.
transfer=$(setting transfer_image)
docker build -t "$transfer" "$root"
"$kind" load docker-image "$transfer" --name "$name"
# The server's: pulled on the node, so that it is there under the digest that Knative resolves.
docker exec "$name-control-plane" crictl pull "$(setting image)"

echo "up. Next: qwenkit run --context kind-$name -p notebooks/params/kind.yaml"
echo "On macOS first: export QWENKIT_GATEWAY=http://127.0.0.1:31080"
