/* A write of more than fits, which is half done until its reader, the parent, is told to finish and begins to take what it
 * gives. Handlers run meanwhile: that of SIGUSR2 returns, and the write must answer what it has given; that of SIGUSR1 leaves
 * by siglongjmp, and the same write at the same place begins anew and must give everything. The reader sees it by the numbers
 * that come: each run begins at 0. The writer has a process group of its own, so that SIGTSTP stops it. */
#include "guest.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { NUMBERS = 400000 };
static uint64_t numbers[NUMBERS];
static sigjmp_buf again;

static void jump(int signal)
{
    (void)signal;
    siglongjmp(again, 1);
}

static void go_on(int signal)
{
    (void)signal;
}

/* Takes everything; how often it begins with 0. The last time must be whole. */
static int take_all(int end)
{
    static unsigned char buffer[8 * 8192];
    uint64_t expected = 0;
    int runs = 0;
    size_t kept = 0;
    ssize_t got;
    while ((got = read(end, buffer + kept, sizeof buffer - kept)) > 0) {
        size_t bytes = kept + (size_t)got, at = 0;
        for (uint64_t number; at + sizeof number <= bytes; at += sizeof number) {
            memcpy(&number, buffer + at, sizeof number);
            runs += number == 0;
            CHECK(number == 0 || number == expected);
            expected = number + 1;
        }
        memmove(buffer, buffer + at, kept = bytes - at);
    }
    CHECK(got == 0 && kept == 0 && expected == NUMBERS);
    return runs;
}

/* Gives everything; ends with the number of jumps times 16 and of writes that were short. */
static void give_all(int end)
{
    volatile int jumps = 0, shorts = 0;
    if (sigsetjmp(again, 1))
        jumps++;
    for (size_t done = 0; done < sizeof numbers;) {
        /* Not write(): with this, also the registers that do not matter are the same each time. */
        ssize_t count = syscall(SYS_write, end, (char *)numbers + done, sizeof numbers - done, 0L, 0L, 0L);
        CHECK(count > 0);
        done += (size_t)count;
        shorts += done < sizeof numbers;
    }
    _exit(jumps * 16 + shorts);
}

int main(void)
{
    int ends[2], status;
    CHECK(signal(SIGUSR1, jump) != SIG_ERR && signal(SIGUSR2, go_on) != SIG_ERR && pipe(ends) == 0);
    for (uint64_t i = 0; i < NUMBERS; i++)
        numbers[i] = i;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(setpgid(0, 0) == 0 && close(ends[0]) == 0);
        give_all(ends[1]);
    }
    CHECK(close(ends[1]) == 0);
    printf("writer %d\n", (int)child);
    ready();
    while (!asked_to_finish(1000)) { }
    int runs = take_all(ends[0]);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    int jumps = WEXITSTATUS(status) / 16, shorts = WEXITSTATUS(status) % 16;
    CHECK(runs == jumps + 1);
    printf("halfjump: %d jumps, %d short\n", jumps, shorts);
    return 0;
}
