#!/usr/bin/env bash
# `docker compose up` trains, ends with 0, and its weights have the digest of `pod train` in threads.
# POD_IMAGE, TPUS and POD_ARGS may be given; with an image given, none is built.
set -euo pipefail
cd "$(dirname "$0")/../.."
export COMPOSE_PROJECT_NAME=pod-test TPUS=${TPUS:-8}
export POD_ARGS=${POD_ARGS:---model mlp --steps 20 --evaluate 256 --seed 7}
out=$(mktemp -d)
clean() { docker compose --profile '*' down --volumes --timeout 1 >/dev/null 2>&1; }
trap 'clean; rm -rf "$out"' EXIT
fail() { tail -n 40 "$out"/*.log >&2; echo "compose.test: failed: $*" >&2; exit 1; }
field() { node -e '
  const line = require("node:fs").readFileSync(0, "utf8").trim().split("\n").at(-1);
  console.log(JSON.parse(line)[process.argv[1]]);' "$1"; }

clean
[ -n "${POD_IMAGE:-}" ] || docker compose build --quiet

echo "wrong flags are refused before anything is started"
if POD_ARGS='--modle mlp' docker compose up >"$out/refused.log" 2>&1; then fail "it went on"; fi
grep -q "unknown option '--modle'" "$out/refused.log" || fail "it does not say what is wrong"
[ -z "$(docker compose ps --services --filter status=running)" ] || fail "something runs"
clean

echo "up with $TPUS: trains and ends with 0"
begin=$(date +%s%N)
timeout --kill-after=10 600 docker compose up --no-color >"$out/up.log" 2>&1 || fail "ended with $?"
docker logs "$(docker compose ps --all --quiet master)" >"$out/master.log" 2>"$out/errors.log"
[ "$(field msg <"$out/master.log")" = summary ] || fail "the last line is no summary"
[ "$(field tpus <"$out/master.log")" = "$TPUS" ] || fail "another number of Cloud TPUs"
node -e '
  const lines = require("node:fs").readFileSync(0, "utf8").split("\n").filter(Boolean).map((it) => JSON.parse(it));
  const first = lines.find(({ msg }) => msg === "step");
  console.log(`first step ${((first.time - process.argv[1] / 1e6) / 1000).toFixed(1)} s after up`);
' "$begin" <"$out/master.log"

echo "every container ended with 0, and no log has the token"
for id in $(docker compose ps --all --quiet); do
  [ "$(docker inspect --format '{{.State.ExitCode}}' "$id")" = 0 ] || fail "$(docker inspect --format '{{.Name}}: exit code {{.State.ExitCode}}' "$id")"
done
token=$(docker compose run --rm --no-deps --no-TTY prepare --print \
  'require("node:fs").readFileSync("/run/secrets/pod-token", "utf8").trim()' 2>/dev/null)
[ ${#token} -ge 32 ] || fail "there is no token"
for id in $(docker compose ps --all --quiet); do docker logs "$id"; done >"$out/all.log" 2>&1
if grep -qF -- "$token" "$out/all.log" "$out/up.log"; then fail "a log has the token"; fi

echo "the digest is that of threads"
read -ra flags <<<"$POD_ARGS"
node dist/src/cli/main.js train --tpus "$TPUS" "${flags[@]}" --report "$out/threads.json" >"$out/threads.log" 2>&1 ||
  fail "pod train ended with $?"
threads=$(tr -d '\n' <"$out/threads.json" | field weightsDigest)
containers=$(field weightsDigest <"$out/master.log")
[ "$containers" = "$threads" ] || fail "containers $containers, threads $threads"
echo "compose.test: passed: $containers with $TPUS Cloud TPUs"
