#!/bin/sh
# The shell pipeline: jq flattens each conversation to one line, zstd compresses.
#   jq_jsonl_zst.sh export.zip out.jsonl.zst
# Needs unzip, jq and zstd (Debian packages of the same names).
set -eu
unzip -p "$1" conversations.json | jq -c '
  .[] | {id, title, create_time, update_time, current_node, model: .default_model_slug,
         messages: [.mapping[] | select(.message != null) | {parent, children} + .message]}
' | zstd -3 -q -o "$2"
