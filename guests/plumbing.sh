# Pipes, subshells, traps, here-documents, process substitution and background work. usage: plumbing.sh ROUNDS
set -u
trap 'echo "at the end: $?"' EXIT
caught=0
trap 'caught=$((caught + 1))' USR1

total() {
    local sum=0 number
    while read -r number; do
        sum=$((sum + number))
    done
    echo "$sum"
}

for ((round = 0; round < $1; round++)); do
    echo "sum $(seq $((round * 100)) $((round * 100 + 3000)) | grep -v 7 | total)"
    (
        trap 'echo "inner trap"; exit 5' TERM
        kill -TERM "$BASHPID"
        echo "never"
    )
    echo "subshell: $?"
    paste <(seq 5 | tac) <(printf '%s\n' a b c d e) | tr '\t' ':' | xargs
    sort -n -k1,1 << END | uniq -c | tr -s ' '
$(for i in 3 1 2 3; do echo "$i here"; done)
END
    kill -USR1 $$
    for part in 1 2 3; do
        (
            for ((i = 0; i < 3000; i++)); do :; done
            exit "$part"
        ) &
        waited[part]=$!
    done
    for part in 3 1 2; do
        wait "${waited[part]}"
        echo "part $part ended with $?"
    done
    false | true | (exit 4) | cat
    echo "statuses ${PIPESTATUS[*]}"
    (exec sh -c 'kill -KILL $$') 2> /dev/null
    echo "killed: $?"
    printf '%s\n' "round $round" >> rounds
done
echo "caught $caught"
wc -l < rounds >&2
exit 9
