/* A tree of processes: each forks its two children, computes, and hands the sum of its branch up through a pipe.
 *
 * Each rests at times: a machine where all of them compute at once would do nothing else.
 *
 * usage: forktree PROCESSES ROUNDS */
#include "guest.h"
#include <sys/wait.h>

static int processes, rounds;

struct branch {
    int count;
    uint64_t sum;
};

static struct branch grow(int number)
{
    struct branch own = { .count = 1 };
    pid_t children[2] = { 0 };
    int pipes[2] = { -1, -1 };
    for (int i = 0; i < 2; i++) {
        int child = 2 * number + 1 + i, ends[2];
        if (child >= processes)
            continue;
        CHECK(pipe(ends) == 0);
        children[i] = fork();
        CHECK(children[i] >= 0);
        if (children[i] == 0) {
            close(ends[0]);
            struct branch branch = grow(child);
            CHECK(write(ends[1], &branch, sizeof branch) == sizeof branch);
            _exit(child % 128);
        }
        close(ends[1]);
        pipes[i] = ends[0];
    }
    uint64_t random = 7 + (uint64_t)number;
    for (int i = 0; i < rounds; i++) {
        own.sum += next_random(&random) & 0xffff;
        if (i % 50000 == 0)
            sleep_ms(50);
    }
    for (int i = 0; i < 2; i++) {
        if (children[i] == 0)
            continue;
        struct branch branch;
        int status;
        CHECK(read(pipes[i], &branch, sizeof branch) == sizeof branch);
        CHECK(waitpid(children[i], &status, 0) == children[i]);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == (2 * number + 1 + i) % 128);
        close(pipes[i]);
        own.count += branch.count;
        own.sum += branch.sum;
    }
    return own;
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    processes = atoi(argv[1]);
    rounds = atoi(argv[2]);
    struct branch tree = grow(0);
    printf("%d processes, sum %llu\n", tree.count, (unsigned long long)tree.sum);
    return 0;
}
