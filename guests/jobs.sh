# Job control on a terminal: stopped, continued, in the foreground and in the background. usage: jobs.sh ROUNDS
set -m
# Whether bash remarks upon the end of a job here or there is chance.
exec 2> /dev/null
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
    # A background job that reads the terminal is stopped by it.
    cat > /dev/null &
    reader=$!
    until is_stopped "$reader"; do :; done
    echo "the reader waits"
    kill -INT "$reader"
    kill -CONT "$reader"
    # The status may still be that of the stop: which of the two bash hears of is chance.
    while kill -0 "$reader"; do wait -f "$reader"; done
    echo "the reader is gone"
    stty -echo && stty -a | grep -o -e "-echo " && stty echo && stty size
    for ((i = 0; i < 20000; i++)); do :; done
done
tty | sed 's/[0-9]*$/N/'
