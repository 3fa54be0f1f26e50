#!/usr/bin/env bash
# Puts the lifecycle policies, the field mapping and the data streams' templates into Elasticsearch,
# for what fluent-bit.conf ships. Run again it changes what has changed.
#
#   elasticsearch-setup.sh https://localhost:9200
#
# Environment: ES_NETRC, a netrc(5) file with user and password (not on the command line, where others see it).
set -euo pipefail
es=${1:?the URL of Elasticsearch is wanted, such as https://localhost:9200}
cd "$(dirname "${BASH_SOURCE[0]}")"

# put PATH FILE
put() {
  curl --silent --show-error --fail-with-body ${ES_NETRC:+--netrc-file "$ES_NETRC"} \
    --request PUT "$es/$1" --header 'Content-Type: application/json' --data-binary "@$2"
  printf '  %s\n' "$1"
}

for kind in error info debug access; do
  put "_ilm/policy/tidegate-$kind" "elasticsearch-policy-$kind.json"
done
put _component_template/tidegate-mappings elasticsearch-mappings.json
for kind in error info debug access; do
  put "_index_template/tidegate-$kind" "elasticsearch-template-$kind.json"
done
