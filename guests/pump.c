/* Copies its input to its output in pieces of random size, under two kinds of signal handlers. */
#include "guest.h"
#include <signal.h>

static volatile sig_atomic_t signals;

static void on_signal(int number)
{
    (void)number;
    signals++;
}

int main(void)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    action.sa_flags = 0;
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
    static char buffer[65536];
    uint64_t random = 12345, total = 0;
    for (;;) {
        size_t piece = 1 + next_random(&random) % sizeof buffer;
        ssize_t got = read(0, buffer, piece);
        if (got == 0)
            break;
        if (got < 0) {
            CHECK(errno == EINTR);
            continue;
        }
        for (ssize_t done = 0; done < got;) {
            size_t part = 1 + next_random(&random) % (size_t)(got - done);
            ssize_t put = write(1, buffer + done, part);
            CHECK(put > 0 || errno == EINTR);
            if (put > 0)
                done += put;
        }
        total += (uint64_t)got;
    }
    /* How many signals came is for the reader only: equal ones melt together while they wait. */
    fprintf(stderr, "pumped %llu bytes, handled %d signals\n", (unsigned long long)total, (int)signals);
    return 0;
}
