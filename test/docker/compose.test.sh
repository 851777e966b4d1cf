#!/usr/bin/env bash
# Tests the pod of docker-compose.yml: a run with `docker compose up` trains, ends with exit code 0,
# and its weights have the same digest as with `pod train` in threads. The variables POD_IMAGE, TPUS
# and POD_ARGS change the image, the number of Cloud TPUs and the flags. With POD_IMAGE no image is
# built.
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

up() { timeout --kill-after=10 600 docker compose up --no-color "$@"; }
# The logs go to a file first: in a pipe, grep ends at its match and `docker compose logs` fails
# then.
says() { docker compose logs --no-color "$1" >"$out/says.log" 2>/dev/null; grep -qF -- "$2" "$out/says.log"; }
awaits() { for _ in $(seq 300); do says "$@" && return; sleep 0.2; done; fail "$1 never says $2"; }
ended() { docker inspect --format '{{.State.ExitCode}}' "$(docker compose ps --all --quiet "$1")"; }

echo "a run that cannot succeed ends once, with its exit code, and the workers go home"
for case in '2 bad-flag --modle mlp' '2 bad-data --data mnist:/files/nope' '5 io --checkpoint /nope'; do
  read -r code name args <<<"$case"
  for form in '--exit-code-from master' --abort-on-container-exit; do
    found=0
    # shellcheck disable=SC2086
    POD_ARGS=$args up $form >"$out/refused.log" 2>&1 || found=$?
    [ "$found" = "$code" ] || fail "up $form with $args ended with $found, expected $code"
    grep -q "\"code\":\"$name\"" "$out/refused.log" || fail "it does not say $name"
    [ -z "$(docker compose ps --services --filter status=running)" ] || fail "something runs"
  done
  POD_ARGS=$args up >"$out/refused.log" 2>&1 || fail "a plain up gives Compose's own exit code"
  [ "$(ended master)" = "$code" ] || fail "the master of a plain up ended with $(ended master)"
  [ "$(docker compose ps --all --format '{{.ExitCode}}' tpu | sort -u)" = 0 ] || fail "a worker failed"
done
begin=$(date +%s%N)
diverging='--model mlp --learning-rate 1e6 --warm-up 0 --steps 30 --evaluate 256'
found=0; POD_ARGS=$diverging up --exit-code-from master >"$out/diverged.log" 2>&1 || found=$?
[ "$found" = 3 ] || fail "a run that diverges ended with $found, expected 3"
docker logs --since "$((begin / 1000000000))" "$(docker compose ps --all --quiet master)" >"$out/diverged.log" 2>&1
[ "$(grep -c '"msg":"commits-found"' "$out/diverged.log")" = 1 ] || fail "it was trained more than once"
clean

echo "up with $TPUS: trains and ends with 0, in each of the usual forms"
begin=$(date +%s%N)
up --exit-code-from master >"$out/from.log" 2>&1 || fail "--exit-code-from master ended with $?"
up --abort-on-container-exit >"$out/abort.log" 2>&1 || fail "--abort-on-container-exit ended with $?"
for form in from abort; do
  grep -q '"msg":"summary"' "$out/$form.log" || fail "$form: no step was trained"
done
clean
begin=$(date +%s%N)
up >"$out/up.log" 2>&1 || fail "ended with $?"
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
token=$(docker compose run --rm --no-deps --no-TTY master cat /run/secrets/pod-token 2>/dev/null)
[ ${#token} -ge 32 ] || fail "there is no token"
for id in $(docker compose ps --all --quiet); do docker logs "$id"; done >"$out/all.log" 2>&1
if grep -qF -- "$token" "$out/all.log" "$out/up.log"; then fail "a log has the token"; fi

echo "a worker that crashes is started again in place"
POD_ARGS='--model mlp --steps 400 --evaluate 256' docker compose up --detach >/dev/null 2>&1
awaits master '"step":5,'
crash='for it in /proc/[0-9]*; do case "$(tr "\0" " " <$it/cmdline 2>/dev/null)" in "node dist/"*) kill -9 "${it#/proc/}" ;; esac; done'
docker compose exec --no-TTY --index 2 tpu sh -c "$crash"
awaits tpu '"msg":"restarting"'
awaits master '"msg":"resumed"'
docker compose stop >/dev/null 2>&1
[ "$(ended master)" = 143 ] || fail "a master that was stopped ended with $(ended master)"
clean

echo "the pod command, and commands of the user"
docker run --rm tpu-pod pod doctor >"$out/doctor.log" 2>&1 || fail "pod doctor ended with $?"
docker compose run --rm --no-deps --no-TTY master pod devices >"$out/devices.log" 2>&1 || fail "run ended with $?"

echo "the digest is that of threads"
read -ra flags <<<"$POD_ARGS"
node dist/src/cli/main.js train --tpus "$TPUS" "${flags[@]}" --report "$out/threads.json" >"$out/threads.log" 2>&1 ||
  fail "pod train ended with $?"
threads=$(tr -d '\n' <"$out/threads.json" | field weightsDigest)
containers=$(field weightsDigest <"$out/master.log")
[ "$containers" = "$threads" ] || fail "containers $containers, threads $threads"
echo "compose.test: passed: $containers with $TPUS Cloud TPUs"
