#!/bin/bash
# The unit under a real systemd: a container booted from a copy-on-write view of this machine's own root,
# so that nothing is fetched and nothing of this machine is changed. Exits 77 with a reason where that is
# impossible. CLOCKWISE_PROGRAMS names a folder of stand-ins for the children (to test this script).
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${CLOCKWISE_BUILD:-build}

give_up() {
    echo "skip the unit works under a real systemd: $1"
    exit 77
}

[ "$(id -u)" = 0 ] || give_up "needs root"
command -v systemd-nspawn >/dev/null || give_up "systemd-nspawn is not installed (systemd-container)"
[ -x /lib/systemd/systemd ] || give_up "systemd is not installed"
grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null || give_up "no overlay file system"
case $build in *address* | *thread*) give_up "a build with sanitizers does not run under the unit's restrictions" ;; esac
for program in clockwised clockwise-worker clockwise-gossipd clockwise-antientropyd; do
    [ -x "$build/$program" ] || [ -x "${CLOCKWISE_PROGRAMS:-/nonexistent}/$program" ] ||
        give_up "$build/$program is not built"
done

top=$(mktemp -d /tmp/clockwise-systemd.XXXXXX)
machine=clockwise-test-$$
cgroups=

clean_up() {
    umount "$top/root" 2>/dev/null
    umount "$top" 2>/dev/null
    rmdir "$top" 2>/dev/null
    for group in $cgroups; do
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
    done
}
trap clean_up EXIT

mount -t tmpfs -o size=1g,mode=755 clockwise-test "$top" || give_up "cannot mount a tmpfs"
mkdir "$top/upper" "$top/work" "$top/root"
mount -t overlay -o "lowerdir=/,upperdir=$top/upper,workdir=$top/work" overlay "$top/root" ||
    give_up "cannot mount an overlay of /"
root=$top/root

# Install the way a package would.
if [ -n "${CLOCKWISE_PROGRAMS:-}" ]; then
    mkdir -p "$root/usr/lib/clockwise" "$root/var/dummy"
    chmod 777 "$root/var/dummy"
    cp -L "$CLOCKWISE_PROGRAMS"/clockwise-* "$root/usr/lib/clockwise/"
    install -m 755 "$build/clockwised" "$root/usr/sbin/"
    sed 's|^UMask=.*|&\nEnvironment=CLOCKWISE_DUMMY=/var/dummy|; s|^ProtectSystem=.*||' \
        packaging/systemd/clockwised@.service >"$root/lib/systemd/system/clockwised@.service"
    gzip -c docs/man/clockwised.8 >"$root/usr/share/man/man8/clockwised.8.gz"
    install -m 644 packaging/sysusers.d/clockwise.conf "$root/usr/lib/sysusers.d/"
else
    make --no-print-directory -s install "DESTDIR=$root" PREFIX=/usr >"$top/install.log" 2>&1 || {
        echo "not ok make install works: $(tail -1 "$top/install.log")"
        exit 1
    }
fi
: >"$root/etc/machine-id"
mkdir -p "$root/etc/clockwise"
printf '[node]\nport = 7379\nworkers = 2\n[cluster]\nn = 1\nr = 1\nw = 1\n' >"$root/etc/clockwise/one.conf"
printf '[node]\nprot = 7379\n' >"$root/etc/clockwise/wrong.conf"
cat >"$root/etc/systemd/system/clockwise-test.target" <<'UNIT'
[Unit]
Requires=basic.target clockwise-test.service
After=basic.target
AllowIsolate=yes
UNIT
cat >"$root/etc/systemd/system/clockwise-test.service" <<'UNIT'
[Unit]
After=basic.target
SuccessAction=exit-force
FailureAction=exit-force
[Service]
Type=oneshot
ExecStart=/unit-test
TimeoutStartSec=150
UNIT

# What runs inside.
cat >"$root/unit-test" <<'INSIDE'
#!/bin/bash
exec >/unit-test.out 2>&1
unit=clockwised@one
failed=0

check() { # NAME COMMAND...
    local name=$1 why
    shift
    if why=$("$@" 2>&1); then
        echo "ok $name"
    else
        echo "not ok $name: $* said: ${why//$'\n'/ | }"
        failed=1
    fi
}

show() { systemctl show -P "$1" "${2:-$unit}"; }

eventually() { # COMMAND...
    local i
    for ((i = 0; i < 300; i++)); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.1
    done
    "$@"
}

is() { # PROPERTY VALUE [UNIT]
    local value
    value=$(show "$1" "${3:-$unit}")
    [ "$value" = "$2" ] || { echo "$1 is $value"; return 1; }
}

redis() { # inline command -> the first line of the reply
    exec 3<>/dev/tcp/127.0.0.1/7379 && printf '%s\r\n' "$1" >&3 && IFS= read -r -t 5 line <&3 || return 1
    [[ $line == '$'* ]] && IFS= read -r -t 5 line <&3
    exec 3>&-
    printf '%s' "${line%$'\r'}"
}

answers() { # COMMAND REPLY
    local reply
    reply=$(redis "$1")
    [ "$reply" = "$2" ] || { echo "$1 answered $reply"; return 1; }
}

worker_pid() { pgrep -f -- '^[^ ]*clockwise-worker .*--index 0 |clockwise-worker .*--index 0 ' | head -1; }

worker_replaced() {
    local old
    old=$(worker_pid)
    kill -9 "$old" || return 1
    eventually new_worker "$old"
}
new_worker() { local pid; pid=$(worker_pid); [ -n "$pid" ] && [ "$pid" != "$1" ]; }

pinned() {
    local cpus
    cpus=$(sed -n 's/^Cpus_allowed_list:\s*//p' "/proc/$(worker_pid)/status")
    [[ $cpus =~ ^[0-9]+$ ]] || { echo "worker 0 runs on CPUs $cpus"; return 1; }
}

status_text() { [[ $(show StatusText) == *"4 of 4 processes ready"* ]] || { show StatusText; return 1; }; }

logged() { journalctl -u "$unit" --no-pager -o cat | grep -q "$1" || { journalctl -u "$unit" --no-pager -o cat | tail -5; return 1; }; }

main_replaced() {
    kill -9 "$(show MainPID)" || return 1
    eventually is NRestarts 1 && eventually is ActiveState active && eventually status_text
}

restarted_by_watchdog() {
    mkdir -p /run/systemd/system/$unit.service.d
    printf '[Service]\nWatchdogSec=1\n' >/run/systemd/system/$unit.service.d/watchdog.conf
    systemctl daemon-reload && systemctl restart $unit && sleep 2 && is NRestarts 0 || return 1
    kill -STOP "$(show MainPID)"
    eventually is NRestarts 1 && eventually is ActiveState active
}

nothing_left() { ! pgrep -a clockwise && [ ! -e /run/clockwise/one ] && [ -e /var/lib/clockwise/one/node-id ]; }

refused() {
    ! systemctl start clockwised@wrong || return 1
    is ExecMainStatus 78 clockwised@wrong && is NRestarts 0 clockwised@wrong
}

verified() {
    local found man=yes
    command -v man >/dev/null || man=no
    found=$(systemd-analyze verify --man=$man /lib/systemd/system/clockwised@.service 2>&1)
    [ -z "$found" ] || { echo "$found"; return 1; }
}

low_exposure() {
    local exposure
    exposure=$(systemd-analyze security --offline=true /lib/systemd/system/clockwised@.service 2>&1 |
        sed -n 's/.*Overall exposure level.*: \([0-9.]*\) .*/\1/p')
    echo "exposure is $exposure"
    awk -v e="$exposure" 'BEGIN { exit !(e != "" && e <= 2.0) }'
}

systemd-sysusers
check "systemd-analyze verify finds nothing" verified
check "the exposure of the unit is at most 2.0" low_exposure
check "start returns when the node is ready" systemctl start $unit
check "the unit is active" is ActiveState active
check "the status text counts the processes" eventually status_text
check "a worker is pinned to one CPU in spite of the filter" pinned
check "the node runs as its own user" test "$(stat -c %U "/proc/$(show MainPID)")" = clockwise
if [ ! -e /var/dummy ]; then
    check "a key is written" answers "SET under systemd" "+OK"
fi
check "a killed worker is replaced" worker_replaced
check "the status text counts it again" eventually status_text
check "systemd has restarted nothing" is NRestarts 0
check "the obituary is in the journal" logged "worker 0 (pid [0-9]*) died of signal 9"
if [ ! -e /var/dummy ]; then
    check "the key is still there" eventually answers "GET under" systemd
fi
check "reload returns" systemctl reload $unit
check "the configuration was read again" eventually logged "configuration reloaded"
check "the unit is active after the reload" is ActiveState active
check "a killed supervisor is restarted by systemd" main_replaced
if [ ! -e /var/dummy ]; then
    check "the key survived that too" eventually answers "GET under" systemd
fi
check "a hung supervisor is restarted by the watchdog" restarted_by_watchdog
check "stop returns" systemctl stop $unit
check "the unit stopped in good order" is Result success
check "nothing is left but the data" nothing_left
check "a wrong configuration fails with 78 and is not tried again" refused
[ $failed = 0 ] || journalctl --no-pager -o short-monotonic -u 'clockwised@*' | tail -60
echo "done"
INSIDE
chmod 755 "$root/unit-test"

# A control group of our own, so that the container's systemd finds an empty one.
for base in /sys/fs/cgroup/unified /sys/fs/cgroup/systemd /sys/fs/cgroup; do
    [ -e "$base/cgroup.procs" ] && mkdir "$base/$machine" 2>/dev/null && cgroups="$cgroups $base/$machine"
done
(
    for group in $cgroups; do
        echo "$BASHPID" >"$group/cgroup.procs"
    done
    exec timeout --kill-after=10 200 systemd-nspawn --quiet --directory="$root" --settings=no --register=no \
        --keep-unit --boot --machine="$machine" --private-network --console=pipe \
        systemd.unit=clockwise-test.target
) </dev/null >"$top/console.log" 2>&1

out=$root/unit-test.out
if ! [ -s "$out" ]; then
    give_up "a container does not boot here: $(tail -1 "$top/console.log")"
fi
grep -v '^done$' "$out"
if ! grep -q '^done$' "$out"; then
    echo "not ok the test inside the container ran to its end"
    exit 1
fi
! grep -q '^not ok' "$out"
