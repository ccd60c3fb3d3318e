/* Counts queued real-time signals: none lost, none doubled, none out of order, while they are blocked now and then.
 *
 * usage: rtsignals COUNT; the sender is sendsig. */
#include "guest.h"
#include <signal.h>

static volatile sig_atomic_t received, disorder;

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    disorder |= info->si_code != SI_QUEUE || info->si_value.sival_int != received;
    received++;
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    int wanted = atoi(argv[1]);
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
    CHECK(sigaction(SIGRTMIN + 1, &action, NULL) == 0);
    sigset_t block, before;
    sigemptyset(&block);
    sigaddset(&block, SIGRTMIN + 1);
    ready();
    uint64_t random = 99;
    while (received < wanted) {
        CHECK(sigprocmask(SIG_BLOCK, &block, &before) == 0);
        /* Blocked while it computes, or while it sleeps. */
        if (next_random(&random) % 2) {
            for (volatile int i = 0; i < 100000; i++)
                ;
        } else {
            /* Long enough for moves to find some pending. */
            struct timespec little = { 0, 10000000 + (long)(next_random(&random) % 24) * 1000000 };
            CHECK(nanosleep(&little, NULL) == 0);
        }
        CHECK(sigprocmask(SIG_SETMASK, &before, NULL) == 0);
        if (asked_to_finish(1))
            break;
    }
    printf("received %d of %d, in order: %s\n", (int)received, wanted, disorder ? "no" : "yes");
    return 0;
}
