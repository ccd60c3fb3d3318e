"""Has a dead child that nobody waits for; prints its pid."""
import os
import sys

child = os.fork()
if child == 0:
    os._exit(0)
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
print("child", child)
print("ready", flush=True)
for line in sys.stdin:
    if line == "finish\n":
        break
os.waitpid(child, 0)
print("unharmed")
