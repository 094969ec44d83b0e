#!/bin/sh
# The simulator replays its seeds to the same traces, and finds the planted bugs that few seeds suffice
# for. All of them, with up to 600 seeds each: sim --check-bugs --jobs N.
# usage: tests/sim/bugs.sh BUILD
sim=${1:-build}/sim
passed=0 failed=0

note() { # note RESULT TEXT
    if [ "$1" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "not ok $2"; fi
}

"$sim" --check-replay --seeds 1-8 >/dev/null
note $? "the same seed gives the same trace"

for bug in W_MINUS_ONE ACK_BEFORE_DURABLE MERGED_BEFORE_DURABLE JOINED_CONTEXT MERGE_FORGETS_VECTOR \
    MERGE_OVERWRITES FALLBACK_NOT_READ HINT_BEFORE_ACK HINT_OF_CHANGED NEVER_REPAIRED DIGEST_IGNORED \
    FIRST_ANSWER_WINS FORWARD_LOST_IS_OK FORWARD_RESENT STRICT_COUNTS_FALLBACKS DELETE_FORGETS \
    LATE_NOT_REPAIRED DOT_REUSED SYNC_LIES; do
    found=$("$sim" --seeds 1-40 --bug $bug --until-failure --jobs 2 2>/dev/null | grep -c '^FAILED')
    [ "$found" -gt 0 ]
    note $? "$bug is found"
done
for bug in SWITCH_BEFORE_WHOLE JOINT_SKIPPED SURE_SKIPPED JOINT_COUNTS_OLD NEW_MEMBER_NOT_WRITTEN NO_FENCE \
    LOSER_STAYS GIVEN_TO_ONE COMPLETION_DIFFERS; do
    found=$("$sim" --ring --seeds 1-60 --bug $bug --until-failure --jobs 2 2>/dev/null | grep -c '^FAILED')
    [ "$found" -gt 0 ]
    note $? "$bug is found"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
