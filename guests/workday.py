"""A bit of everything: computes, writes files, runs subprocesses and threads. usage: workday.py ROUNDS"""

import hashlib
import os
import subprocess
import sys
import threading


def compute(number):
    digest = hashlib.sha256(str(number).encode())
    for _ in range(20000):
        digest = hashlib.sha256(digest.digest())
    return digest.hexdigest()


def in_threads(number):
    results = {}

    def work(part):
        results[part] = compute(number * 10 + part)

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[part] for part in sorted(results)]


def in_processes(number):
    program = "import sys; print(sum(ord(c) * i for i, c in enumerate(sys.stdin.read())))"
    texts = [compute(number + part) * 1000 for part in range(2)]
    runs = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in texts
    ]
    answers = [run.communicate(text)[0].strip() for run, text in zip(runs, texts)]
    sorting = subprocess.run("sort -r | uniq -c | tail -3", shell=True, input="\n".join(answers) + "\n",
                             capture_output=True, text=True, check=True)
    killed = subprocess.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 15)"])
    return answers, sorting.stdout.split(), [run.returncode for run in runs], killed.returncode


def main():
    os.mkdir("files")
    for number in range(int(sys.argv[1])):
        results = in_threads(number)
        with open(f"files/{number}", "w") as file:
            for line in range(2000):
                file.write(f"{line} {results[line % 4]}\n")
                if line % 500 == 0:
                    file.flush()
        os.symlink(f"{number}", f"files/link-{number}")
        if number % 3 == 2:
            os.rename(f"files/{number}", f"files/renamed-{number}")
        print(number, compute(number), *in_processes(number))
        print("round", number, file=sys.stderr)
    print(sorted(os.listdir("files")))
    return 7


sys.exit(main())
