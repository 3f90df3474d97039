#!/usr/bin/env bash
# Keep what a cluster of tools/kind/up.sh says, also after a failure: tools/kind/logs.sh [NAME [FOLDER]]
set -uo pipefail # each command tells what it can; none stops the others
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tools/kind/versions.env
source "$here/versions.env"
name=${1:-qwenkit} folder=${2:-runs/cluster}
kind=$(command -v kind || find "$here/../../build/kind" -name "kind-$KIND_VERSION-*" ! -name '*.part' | head -n 1)
mkdir -p "$folder"
kubectl --context "kind-$name" get nodes,pods,ksvc,revisions,pv,pvc,jobs,events -A -o wide >"$folder/objects.txt" 2>&1
kubectl --context "kind-$name" describe nodes >"$folder/nodes.txt" 2>&1
[ -z "$kind" ] || "$kind" export logs "$folder/logs" --name "$name"
exit 0
