#!/usr/bin/env bash
# Tests pod chaos run --ground containers: a plan whose faults Docker injects holds, and nothing is
# left afterwards, also if the command is killed. With POD_IMAGE no image is built.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$(mktemp -d)
export TMPDIR=$out/tmp
mkdir "$TMPDIR"
clean() { kill $(jobs -p) 2>/dev/null || true; wait; "${pod[@]}" chaos heal >/dev/null; rm -rf "$out"; }
trap clean EXIT
fail() { tail -n 40 "$out"/*.log >&2; echo "chaos.test: failed: $*" >&2; exit 1; }
pod=(node dist/src/cli/main.cjs)
label=label=tpu-pod.chaos.runner
left() {
  docker ps --all --quiet --filter "$label"
  docker network ls --quiet --filter "$label"
  docker volume ls --quiet --filter "$label"
  ls "$TMPDIR"
}
awaits() { for _ in $(seq 600); do "$@" && return; sleep 0.1; done; fail "$* does not come true"; }
nothing_left() { [ -z "$(left)" ]; }

[ -n "${POD_IMAGE:-}" ] || docker compose build --quiet

cat >"$out/plan.yaml" <<'PLAN'
run: { topology: 2x2, model: mlp, steps: 24, globalBatch: 128, evaluate: 128 }
faults:
  - { fault: kill, tpu: 3, at: { step: 3, phase: reduce-scatter, bucket: 0, hop: 1 } }
  - { fault: pause, tpu: 1, for: { ms: 2000 }, at: { step: 9 } }
  - { fault: partition, groups: [[0, 1, 3], [2]], for: { ms: 2000 }, at: { step: 15, phase: update } }
  - { fault: master-kill, at: { step: 21, phase: outfeed } }
expect: { weights: bit-identical, samples: exactly-once, steps: committed-once, culprit: named }
PLAN
echo "Docker injects the faults of a plan, and the run ends with the weights of threads"
"${pod[@]}" chaos run "$out/plan.yaml" --ground containers --run "$out/record" >"$out/run.log" 2>&1 ||
  fail "the plan ended with $?"
nothing_left || fail "the run has left $(left)"
"${pod[@]}" report "$out/record" >"$out/report.log" 2>&1 || fail "the record cannot be read"
grep -q 'master-kill' "$out/report.log" || fail "the report does not list the faults"

echo "a command that is killed leaves nothing, although a container is paused"
cat >"$out/killed.yaml" <<'PLAN'
run: { topology: 2x1, model: mlp, steps: 100000, globalBatch: 64, evaluate: 64 }
faults: [{ fault: pause, tpu: 1, for: { ms: 600000 }, at: { step: 2 } }]
PLAN
paused() { [ -n "$(docker ps --quiet --filter "$label" --filter status=paused)" ]; }
"${pod[@]}" chaos run "$out/killed.yaml" --ground containers >"$out/killed.log" 2>&1 &
awaits paused
kill -9 $!
awaits nothing_left

echo "pod chaos heal removes what is left if the guard is killed too"
"${pod[@]}" chaos run "$out/killed.yaml" --ground containers >"$out/killed.log" 2>&1 &
runner=$!
awaits paused
kill -9 "$(pgrep -f "chaos guard $runner ")"
kill -9 "$runner"
! nothing_left || fail "nothing is left to heal"
"${pod[@]}" chaos heal >"$out/heal.log" 2>&1 || fail "heal ended with $?"
grep -q 'unpaused 1, removed 3 containers' "$out/heal.log" || fail "heal does not say what it did"
nothing_left || fail "heal has left $(left)"
echo "chaos.test: passed"
