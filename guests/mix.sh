# Twenty programs at work at once, each by itself; what each of them prints and how it ends must be what it is in peace.
# usage: mix.sh TURNS
set -u
turns=$1

# Gives a guest that works in turns so many of them.
steps() {
    for ((turn = 0; turn < turns; turn++)); do
        printf 'step\n'
        sleep 0.2
    done
    printf 'finish\n'
}

# Starts one, and remembers it. What it prints depends on nothing but its work.
start() {
    local name=$1
    shift
    mkdir "$name.d"
    (cd "$name.d" && exec "$@" > ../"$name.out" 2>&1) &
    started[$!]=$name
}

# The same for one that is fed.
fed() {
    local name=$1
    shift
    mkdir "$name.d"
    (cd "$name.d" && steps | "$@" > ../"$name.out" 2>&1) &
    started[$!]=$name
}

declare -a started
fed counter python3 ../counter.py count
fed files ../files .
fed pipes ../pipes
fed registers ../registers
fed threads64 ../threads64
fed family ../family
fed memory ../memory
fed timers ../timers
fed faults ../faults
fed compute ../compute
fed compute-static ../compute-static
fed go ../compute-go
fed python python3 ../compute.py
fed awk gawk -f ../compute.awk
fed perl perl ../compute.pl
fed bash bash ../compute.sh
start xz sh -c "seq $((turns * 20000)) | xz -T2 -1 --block-size=300000 | xz -d | sha256sum"
start sort sh -c "seq $((turns * 10000)) | sha256sum -; seq $((turns * 10000)) | sort -R --random-source=../mix.sh | gzip -9 | zcat | sort -n | uniq | sha256sum"
start forktree ../forktree 100 200000
start workday python3 ../workday.py $((turns / 4 + 1))

for pid in "${!started[@]}"; do
    wait "$pid"
    echo "${started[pid]}: $?" >> ended
done
sort ended
