# Job control on a terminal: stopped, continued, in the foreground and in the background. usage: jobs.sh ROUNDS
set -m
is_stopped() { [[ $(ps -o state= -p "$1") == T* ]]; }
for ((round = 0; round < $1; round++)); do
    sleep 1000 &
    sleeper=$!
    kill -STOP "$sleeper"
    until is_stopped "$sleeper"; do :; done
    jobs | sed 's/ *$//'
    bg > /dev/null
    while is_stopped "$sleeper"; do :; done
    jobs -r | wc -l
    kill -TERM %1
    wait -f %1
    echo "terminated: $?"
    # Stops itself in the foreground, as by ^Z, and is continued there.
    bash -c 'kill -STOP $$; echo "continued"; exit 6'
    echo "stopped: $?"
    fg > /dev/null
    echo "ended: $?"
    # A background job that changes the terminal is stopped by it, and may do so in the foreground.
    stty -echo &
    setter=$!
    until is_stopped "$setter"; do :; done
    echo "the setter waits"
    fg > /dev/null
    echo "set: $?"
    stty echo
    stty size
    for ((i = 0; i < 20000; i++)); do :; done
done
tty | sed 's/[0-9]*$/N/'
