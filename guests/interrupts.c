/* Calls that nothing interrupts, made while signals come whose handlers let calls be interrupted: each call answers what it
 * should, and every signal comes once. */
#include "guest.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>

enum { ROUNDS = 60 };
static volatile sig_atomic_t alarms, own;

static void on_signal(int number)
{
    if (number == SIGALRM)
        alarms++;
    else
        own++;
}

/* Waits for a signal of each kind, the `wanted`th. */
static void wait_for_both(int wanted)
{
    for (int ms = 0; alarms < wanted || own < wanted; ms++) {
        CHECK(ms < 20000);
        sleep_ms(1);
    }
    CHECK(alarms == wanted && own == wanted);
}

int main(void)
{
    /* No SA_RESTART. */
    struct sigaction action = { .sa_handler = on_signal };
    CHECK(sigaction(SIGALRM, &action, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
    FILE *file = tmpfile();
    CHECK(file);
    int fd = fileno(file), ends[2];
    CHECK(pwrite(fd, "0123456789", 10, 0) == 10 && pipe(ends) == 0);
    ready();
    uint64_t random = 7;
    int rounds = 0;
    umask(022);
    char bytes[16];
    struct stat status;
    do {
        for (int i = 0; i < ROUNDS; i++) {
            struct itimerval soon = { { 0, 0 }, { 0, 1 + (long)(next_random(&random) % 200) } };
            CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
            CHECK(kill(getpid(), SIGUSR1) == 0);
            switch (i % 4) {
            case 0: CHECK(pread(fd, bytes, 10, 0) == 10); break;
            case 1: CHECK(fstat(fd, &status) == 0 && status.st_size == 10); break;
            case 2: CHECK(write(ends[1], "x", 1) == 1 && read(ends[0], bytes, 1) == 1); break;
            default: CHECK(lseek(fd, 3, SEEK_SET) == 3 && umask(022) == 022); break;
            }
            wait_for_both(++rounds);
        }
    } while (!asked_to_finish(0));
    puts("interrupts: none was seen");
    return 0;
}
