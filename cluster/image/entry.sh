#!/bin/sh
# The first program of every container of a pod (behind the engine's init):
#   master, worker     runs it, and starts it again in place when it crashed
#   set-token          puts the join token from standard input in place of the present one
#   pod ...            the pod command
#   anything else      runs it
#
# A container ends with the program's exit code when that is final: the work is done, or trying again
# would not help. So engines need no rules of their own for what to restart. A crash (any other code,
# or a signal) is tried again POD_RESTARTS times in a row; a program that lived for ten seconds begins
# a new row.
set -u
cd "${POD_APP:-/app}" || exit 1

case "${1:-}" in
  master) program=dist/cluster/master/main.cjs final=' 0 2 3 4 5 130 143 ' ;;
  # Workers that cannot go on are losses: the master decides how many are too many.
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
  # One that came just before found nobody to forward it to.
  [ -z "$asked" ] || kill -s "$asked" "$child" 2>/dev/null
  # A signal ends `wait` early: the program is waited for until it has ended.
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
  # Half a second, and again as long with each crash of the row.
  sleep "$((row / 2)).$((row % 2 * 5))" &
  child=$!
  wait "$child"
  child=''
done
exit 143
