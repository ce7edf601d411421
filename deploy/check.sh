#!/usr/bin/env bash
# Hold the deployment files against their schemas and linters: what can be known without running
# them. `make check-deploy` brings the tools; kubectl, systemd-analyze and promtool are used where
# they are installed, and named where they are not.
set -euo pipefail
cd "$(dirname "$0")/.."
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT

has() {
    command -v "$1" >/dev/null || {
        echo "not checked: $2 ($1 is not installed)"
        false
    }
}

hadolint Dockerfile && echo "ok  Dockerfile"
shellcheck prestart.sh deploy/*.sh .ci/run && echo "ok  scripts"
check-jsonschema --quiet --builtin-schema vendor.compose-spec deploy/compose.yaml
echo "ok  compose"
check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yaml
echo "ok  workflows"

if has kubectl "Kubernetes"; then
    cp -r deploy/kubernetes "$folder"
    cp "$folder/kubernetes/secret.env.example" "$folder/kubernetes/secret.env"
    kubectl kustomize "$folder/kubernetes" >"$folder/all.yaml"
    kubernetes-validate --quiet --strict "$folder/all.yaml"
    echo "ok  Kubernetes ($(grep -c '^kind:' "$folder/all.yaml") objects)"
fi

if has systemd-analyze "the systemd unit"; then
    # It wants the programs that the unit names to be there.
    sed "s|/opt/lookout|$folder/opt|" deploy/systemd/lookout.service >"$folder/lookout.service"
    mkdir -p "$folder/opt/.venv/bin"
    install -m 755 prestart.sh "$folder/opt/prestart.sh"
    install -m 755 /dev/null "$folder/opt/.venv/bin/gunicorn"
    said="$(systemd-analyze verify --man=no "$folder/lookout.service" 2>&1 | grep lookout || true)"
    [ -z "$said" ] || { echo "$said" >&2; exit 1; }
    echo "ok  systemd unit"
fi

if has promtool "Prometheus' rules"; then
    promtool check config deploy/prometheus/prometheus.yaml >/dev/null
    (cd deploy/prometheus && promtool test rules alerts_test.yaml >/dev/null)
    echo "ok  Prometheus"
fi
