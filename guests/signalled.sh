# The pump between two pipes under a rain of signals, and queued signals that carry numbers.
# usage: signalled.sh DIRECTORY NUMBERS SIGNALS
set -u
mkfifo quiet
: > received
seq "$2" | "$1/pump" 2> pumped | md5sum &
{
    until pump=$(pgrep -x pump); do :; done
    while kill -USR1 "$pump" && sleep 0.02 && kill -USR2 "$pump"; do sleep 0.03; done 2> /dev/null
} &
# Opened for reading and writing the fifo never ends.
"$1/rtsignals" "$3" <> quiet > received &
receiver=$!
until grep -q ready received; do :; done
"$1/sendsig" "$receiver" "$3"
wait "$receiver"
echo "receiver: $?"
cat received
wait
sed 's/,.*//' pumped
rm pumped
