/* The smallest program that can say how long it stood still: it looks at the clock all the time.
 *
 * usage: gaps THREADS; all but one of them sleep. Told "gap" it prints the longest gap since it was last asked, in microseconds; anything else ends it. */
#include "guest.h"
#include <pthread.h>

static void *sleep_on(void *argument)
{
    for (;;)
        pause();
    return argument;
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    for (int i = 1; i < atoi(argv[1]); i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, sleep_on, NULL) == 0);
    }
    char line[64];
    double gap = 0, look = 0, last;
    struct pollfd input = { .fd = 0, .events = POLLIN };
    ready();
    last = seconds(CLOCK_MONOTONIC);
    for (;;) {
        double now = seconds(CLOCK_MONOTONIC);
        if (now - last > gap)
            gap = now - last;
        last = now;
        if (now < look)
            continue;
        look = now + 0.005;
        if (poll(&input, 1, 0) == 0)
            continue;
        if (!fgets(line, sizeof line, stdin) || strcmp(line, "gap\n") != 0)
            return 0;
        printf("gap %.0f\n", gap * 1e6);
        fflush(stdout);
        gap = 0;
        last = seconds(CLOCK_MONOTONIC);
    }
}
