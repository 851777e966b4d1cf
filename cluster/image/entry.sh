#!/bin/sh
# First program of every container of a pod (started by the container engine's init). The first
# argument selects what it does:
#   master, worker     runs the master or a worker, and restarts it in this container after a crash
#   set-token          replaces the join token by the one on standard input
#   pod ...            runs the pod command
#   anything else      runs that program
#
# An exit code of the master or worker is final if the work is done or a restart would not help. The
# container then ends with that code, so container engines need no restart rules of their own. Any
# other exit code, or death by a signal, is a crash. After a crash the program is restarted, up to
# POD_RESTARTS times in succession. The count begins again when a program that ran for ten seconds
# or longer crashes.
set -u
cd "${POD_APP:-/app}" || exit 1

case "${1:-}" in
  master) program=dist/cluster/master/main.cjs final=' 0 2 3 4 5 130 143 ' ;;
  # Exit codes 3, 4 and 5 of a worker are not final: to the master a failed worker is one lost Cloud
  # TPU, and the master decides how many losses end the run.
  worker) program=dist/cluster/worker/main.cjs final=' 0 2 130 143 ' ;;
  set-token) exec node dist/cluster/image/set-token.js ;;
  pod) shift && exec node /app/dist/src/cli/main.cjs "$@" ;;
  *.js | *.cjs) exec node "$@" ;;
  *) exec "$@" ;;
esac

uptime() { cut -d' ' -f1 /proc/uptime; }
POD_STARTED_S=$(uptime)
export POD_STARTED_S

asked='' child='' attempt=0 row=0
forward() {
  asked=$1
  [ -z "$child" ] || kill -s "$1" "$child" 2>/dev/null
}
trap 'forward TERM' TERM
trap 'forward INT' INT
trap 'forward HUP' HUP

while [ -z "$asked" ]; do
  began=$(uptime)
  POD_ATTEMPT=$attempt node "$program" &
  child=$!
  # A signal that arrived just before the start could not be forwarded to the program yet.
  [ -z "$asked" ] || kill -s "$asked" "$child" 2>/dev/null
  # A signal to this shell ends `wait` early, so `wait` is repeated until the program has ended.
  while wait "$child"; code=$?; kill -s 0 "$child" 2>/dev/null; do :; done
  child=''
  case "$final" in *" $code "*) exit "$code" ;; esac
  [ -z "$asked" ] || exit "$code"
  [ $((${began%.*} + 10)) -gt "$(uptime | cut -d. -f1)" ] || row=0
  row=$((row + 1)) attempt=$((attempt + 1))
  [ "$row" -le "${POD_RESTARTS:-5}" ] || exit "$code"
  if [ "${POD_LOG_FORMAT:-json}" = text ]; then
    printf '%sZ  warning: restarting (exitCode %s, restarts %s)\n' "$(date -u +%T)" "$code" "$row"
  else
    printf '{"level":40,"time":%s,"role":"%s","exitCode":%s,"restarts":%s,"msg":"restarting"}\n' \
      "$(date +%s%3N)" "$1" "$code" "$row"
  fi
  # Delay before the restart: half a second for each crash in succession.
  sleep "$((row / 2)).$((row % 2 * 5))" &
  child=$!
  wait "$child"
  child=''
done
exit 143
