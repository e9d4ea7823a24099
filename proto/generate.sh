#!/usr/bin/env bash
# Generates pkg/storeapi/storepb from the .proto files beside this script. The
# generators are pinned in tools/go.mod; no network is needed once the modules
# are in the module cache.
set -euo pipefail
cd "$(dirname "$0")"
bin="$PWD/../bin/proto"
mkdir -p "$bin"
(cd tools && go build -o "$bin/" tool)
find ../pkg/storeapi/storepb -name '*.pb.go' -delete 2>/dev/null || true
PATH="$bin:$PATH" "$bin/buf" generate
