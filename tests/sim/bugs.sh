#!/bin/sh
# The planted bugs that are looked for in tests: each must be found within so many seeds. The list names
# every bug of core/planted.def: those marked "rare" take more seeds than a test has time for, and are
# left to `sim --check-bugs`. With "quick": those that six seeds suffice for.
# usage: tests/sim/bugs.sh [BUILD [quick]]
sim=${1:-build}/sim
quick=${2:-}
passed=0 failed=0

bugs() { # NAME SEEDS OPTIONS...
    cat <<'LIST'
W_MINUS_ONE 6
ACK_BEFORE_DURABLE 6
MERGED_BEFORE_DURABLE 6
JOINED_CONTEXT 6
MERGE_FORGETS_VECTOR 6
MERGE_OVERWRITES 6
FALLBACK_NOT_READ 40
RETRY_TWICE 40
HINT_FORGOTTEN 60
FALLBACK_HINT_FORGOTTEN 60
HINT_BEFORE_ACK 6
LATE_NOT_REPAIRED 40
NEVER_REPAIRED 40
DIGEST_IGNORED 6
FIRST_ANSWER_WINS 40
FORWARD_LOST_IS_OK 6
FORWARD_RESENT 40
LOST_IS_RESENT 6
REFUSAL_IS_FINAL 100 --repair --nodes 6 --ops 6000
STRICT_COUNTS_FALLBACKS 40
DELETE_FORGETS 40
STAMPED_BY_CLOCK rare
NO_WITNESS 40
DOT_REUSED 6
CORRUPT_IS_MISSING 40
HINT_OF_CHANGED 40
SYNC_LIES 40
BACKUP_KEEPS_ID 40
SENT_BEFORE_WRITTEN rare
POWER_CUT_KEEPS_ID rare
HORIZON_SKIPS_PEER 6 --repair
LATE_IS_PURGED 40 --repair
HORIZON_SURVIVES 6 --repair
DEAD_COMES_BACK 6 --repair
AGREED_WITH_SKIPPED 6 --repair
AGREED_BEFORE_DURABLE 6 --repair
NO_SECOND_LOOK 40 --repair
FOLD_DROPS_LEAF 6 --repair
LISTED_ONLY_MINE 6 --repair
NOTHING_COUNTS 6 --repair
AWAY_SERVES 6 --repair
AWAY_DELIVERS 6
SURPLUS_DROPPED_EARLY 6 --repair
SWITCH_BEFORE_WHOLE 60 --ring
FILLED_BY_ONE rare --ring
JOINT_SKIPPED 150 --ring
SURE_SKIPPED 150 --ring
JOINT_COUNTS_OLD 150 --ring
NEW_MEMBER_NOT_WRITTEN rare --ring
NO_FENCE rare --ring
GUARD_SKIPPED rare --ring
LOSER_STAYS 60 --ring
GIVEN_TO_ONE 60 --ring
COMPLETION_DIFFERS 60 --ring
PREFIX_N_IGNORED 40 --repair
BUFFERS_COUNT rare --repair
EXCUSED_COUNTS 60 --ring
KEPT_NOT_SURE 150 --ring
EXCUSED_TOO_MANY 60 --ring
ENTRUSTED_WITHOUT_HINT 60 --ring
AGREED_WITH_GIVER 60 --ring
LIST
}

note() { # note RESULT TEXT
    if [ "$1" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "not ok $2"; fi
}

if [ -z "$quick" ]; then
    "$sim" --check-replay --seeds 1-8 >/dev/null
    note $? "the same seed gives the same trace"
fi

known=$(bugs | cut -d' ' -f1 | sort)
planted=$("$sim" --list-bugs | cut -d' ' -f1 | sort)
[ "$known" = "$planted" ]
note $? "the list names all planted bugs, and no others"

while read -r bug seeds options; do
    [ "$seeds" != rare ] || continue
    [ -z "$quick" ] || [ "$seeds" -le 6 ] || continue
    # shellcheck disable=SC2086
    found=$("$sim" $options --seeds "1-$seeds" --bug "$bug" --until-failure --jobs 2 2>/dev/null |
        grep -c '^FAILED')
    [ "$found" -gt 0 ]
    note $? "$bug is found"
done <<EOF2
$(bugs)
EOF2
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
