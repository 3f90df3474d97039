#!/usr/bin/env bash
# Remove the cluster that tools/kind/up.sh made: tools/kind/down.sh [NAME]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tools/kind/versions.env
source "$here/versions.env"
kind=$(command -v kind || find "$here/../../build/kind" -name "kind-$KIND_VERSION-*" ! -name '*.part' | head -n 1)
[ -n "$kind" ] || { echo "there is no kind on the PATH or in build/kind" >&2; exit 1; }
"$kind" delete cluster --name "${1:-qwenkit}"
