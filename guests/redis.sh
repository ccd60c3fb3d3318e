# A redis server under its own benchmark, over the loopback of the node; what it counted must be what was sent.
# usage: redis.sh REQUESTS
set -u
redis-server --port 6399 --bind 127.0.0.1 --save '' --appendonly no --daemonize no > /dev/null &
until redis-cli -p 6399 ping 2> /dev/null | grep -q PONG; do :; done
redis-benchmark -p 6399 -q -c 8 -n "$1" -t incr,lpush,sadd,hset,set > /dev/null
redis-benchmark -p 6399 -q -c 4 -P 8 -n "$1" -t incr,rpush > /dev/null
redis-cli -p 6399 get counter:__rand_int__
redis-cli -p 6399 llen mylist
redis-cli -p 6399 eval 'local s = 0 for i = 1, 200000 do s = (s + i * i) % 1000003 end return s' 0
redis-cli -p 6399 dbsize
redis-cli -p 6399 shutdown nosave
wait
echo "server: $?"
