#!/usr/bin/env bash
# Do what the Dockerfile does, without Docker: in a fresh folder, with a fresh virtual environment,
# as an account that owns nothing but its data; then ask what its health check asks, classify a
# text as a new user, scrape the metrics, and stop. Exits 0 when all of it worked.
#
#   deploy/prove-bare.sh [FOLDER]     (default: a new one under /tmp; it is removed at the end)
#
# TORCH_INDEX is taken as by the Dockerfile; unset, pip's own index serves torch too. PYTHON names
# the interpreter. As root, the service runs as the account "nobody"; otherwise as yourself, and
# "cannot write its own code" is then proved by the folder's modes alone.
set -euo pipefail

source="$(cd "$(dirname "$0")/.." && pwd)"
folder="${1:-$(mktemp -d /tmp/lookout-bare.XXXXXX)}"
port="${PORT:-8765}"
mkdir -p "$folder/app" "$folder/data" "$folder/tmp"
chmod 755 "$folder"
server=

say() { printf '%s  %s\n' "$(date +%T)" "$*"; }

clean_up() {
    [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
    chmod -R u+w "$folder"
    [ "${KEEP:-}" ] || rm -rf "$folder"
}
trap clean_up EXIT

say "copying what .dockerignore lets through"
sed -n 's/^!//p' "$source/.dockerignore" | while read -r path; do
    tar --create --directory "$source" --exclude __pycache__ "$path"
done | tar --extract --ignore-zeros --no-same-owner --directory "$folder/app"

as_service=()
if [ "$(id -u)" = 0 ]; then
    user="$(id -u nobody)" group="$(id -g nobody)"
    chown "$user:$group" "$folder/data" "$folder/tmp"
    as_service=(setpriv --reuid "$user" --regid "$group" --clear-groups --no-new-privs
        --bounding-set=-all --inh-caps=-all)
fi

say "installing into a fresh virtual environment"
"${PYTHON:-python3}" -m venv "$folder/venv"
if ! "${as_service[@]}" "$folder/venv/bin/python" -c ''; then
    echo "uid $user cannot run $(readlink -f "$folder/venv/bin/python"): name another in PYTHON" >&2
    exit 1
fi
pip=("$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir)
torch="$(grep '^torch==' "$folder/app/requirements.txt")"
"${pip[@]}" ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$torch"
"${pip[@]}" -r "$folder/app/requirements.txt" -r "$folder/app/requirements-observability.txt"
"$folder/venv/bin/python" -m compileall -q "$folder/app/app" "$folder/app/alembic"
chmod -R a-w,a+rX "$folder/app"

# The image's environment, read from the Dockerfile itself, with the paths of this folder.
environment=()
while read -r pair; do
    environment+=("$pair")
done < <(python3 - "$source/Dockerfile" "$folder" <<'PYTHON'
import re, sys
text, folder = open(sys.argv[1]).read(), sys.argv[2]
block = re.findall(r"^ENV (.*?[^\\])$", text, re.M | re.S)[-1].replace("\\\n", " ")
for pair in block.split():
    name, value = pair.split("=", 1)
    value = value.replace("/opt/venv", f"{folder}/venv").replace("/data", f"{folder}/data")
    print(f"{name}={value.replace('$PATH', '/usr/bin:/bin')}")
PYTHON
)
environment+=("HOME=$folder/data" "TMPDIR=$folder/tmp" "PORT=$port" "HOST=127.0.0.1"
    "DETECTION_MODEL=${DETECTION_MODEL:-yolos-digits}"
    "SECRET_KEY=$(python3 -c 'import secrets; print(secrets.token_urlsafe(48))')")

# Takes the place of the shell that calls it, so that $! below is the server itself.
in_image() {
    cd "$folder/app"
    exec "${as_service[@]}" env -i "${environment[@]}" "$@"
}

if (in_image sh -c 'touch app/x') 2>/dev/null; then
    echo "the service can write its own code" >&2
    exit 1
fi

say "migrating and starting as uid ${user:-$(id -u)}"
in_image sh -c './prestart.sh && exec gunicorn' >"$folder/tmp/log" 2>&1 &
server=$!
# The health check of the Dockerfile, word for word.
check="$(python3 - "$source/Dockerfile" <<'PYTHON'
import json, re, sys
text = open(sys.argv[1]).read()
print(json.loads(re.search(r"HEALTHCHECK.*?CMD (\[.*?\])$", text, re.M | re.S)[1])[2])
PYTHON
)"
for attempt in $(seq 100); do
    if (in_image python -c "$check") >/dev/null 2>&1; then
        say "healthy"
        break
    fi
    if ! kill -0 "$server" 2>/dev/null || [ "$attempt" = 100 ]; then
        cat "$folder/tmp/log" >&2
        echo "it did not become healthy" >&2
        exit 1
    fi
    sleep 2
done

(in_image python -) <<'PYTHON'
import json, os, urllib.parse, urllib.request

def call(path, body=None, token=None, form=False):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if body is not None and not form:
        headers["Content-Type"] = "application/json"
    data = body and (urllib.parse.urlencode(body) if form else json.dumps(body)).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{os.environ['PORT']}{path}", data, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()

account = {"email": "bare@example.com", "password": "a long enough password"}
call("/register", account)
form = {"username": account["email"], "password": account["password"]}
token = json.loads(call("/token", form, form=True))["access_token"]
answer = json.loads(call("/prediction", {"text": "computer cpu memory ram"}, token))
assert answer["category"] == "comp.sys.mac.hardware", answer
assert len(json.loads(call("/history", token=token))["items"]) == 1
assert b"lookout_workers" in call("/metrics")
print("          registered, signed in, classified, found it in the history, scraped")
PYTHON

say "stopping"
kill -TERM "$server"
status=0
wait "$server" || status=$?
server=
if [ "$status" != 0 ]; then
    cat "$folder/tmp/log" >&2
    echo "it ended with status $status" >&2
    exit 1
fi
if find "$folder/app" -newer "$folder/tmp/log" -type f | grep -q .; then
    echo "something wrote into the image's folder" >&2
    exit 1
fi
say "passed; the environment takes $(du -sh "$folder/venv" | cut -f1)"
