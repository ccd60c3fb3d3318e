/* Measures how long calls take that go home, one that does not, and a loop without any.
 *
 * Told "measure" it prints one line: getpid, write of 100 bytes, read of 100 bytes, read of 64 kB (microseconds, medians),
 * and the loop (milliseconds, the shortest). Anything else ends it. */
#include "guest.h"
#include <fcntl.h>
#include <sys/syscall.h>

enum { TIMES = 3000, LOOPS = 15, LARGE = 65536 };

static double times[TIMES];

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(int count)
{
    qsort(times, (size_t)count, sizeof *times, compare);
    return times[count / 2] * 1e6;
}

#define MEASURE(clock, count, action) \
    ({ \
        for (int i = 0; i < (count); i++) { \
            double start = seconds(clock); \
            action; \
            times[i] = seconds(clock) - start; \
        } \
        median(count); \
    })

static void compute(void)
{
    volatile uint64_t x = 1;
    for (int i = 0; i < 20000000; i++)
        x = x * 6364136223846793005u + 1442695040888963407u;
}

static void ask(void)
{
    for (int i = 0; i < 1000; i++)
        syscall(SYS_getpid);
}

int main(void)
{
    static char line[64], buffer[LARGE];
    int null = open("/dev/null", O_WRONLY), zero = open("/dev/zero", O_RDONLY);
    CHECK(null >= 0 && zero >= 0);
    ready();
    while (fgets(line, sizeof line, stdin) && strcmp(line, "measure\n") == 0) {
        double local = MEASURE(CLOCK_MONOTONIC, 50, ask()) / 1000;
        double sent = MEASURE(CLOCK_MONOTONIC, TIMES, CHECK(write(null, buffer, 100) == 100));
        double got = MEASURE(CLOCK_MONOTONIC, TIMES, CHECK(read(zero, buffer, 100) == 100));
        double large = MEASURE(CLOCK_MONOTONIC, TIMES / 5, CHECK(read(zero, buffer, LARGE) == LARGE));
        /* Its own time on the processor: what others take of it is no matter of where it runs. */
        MEASURE(CLOCK_PROCESS_CPUTIME_ID, LOOPS, compute());
        printf("measured %.4f %.3f %.3f %.3f %.4f\n", local, sent, got, large, times[0] * 1e3);
        fflush(stdout);
    }
    return 0;
}
