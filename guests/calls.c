/* Measures how long calls take that go home, and one that does not; prints microseconds.
 *
 * Told "measure" it measures and prints one line; told "finish" it ends. */
#include "guest.h"
#include <fcntl.h>
#include <sys/syscall.h>

enum { TIMES = 2000 };

static double each(double start)
{
    return (seconds(CLOCK_MONOTONIC) - start) * 1e6 / TIMES;
}

int main(void)
{
    char line[64], buffer[65536] = { 0 };
    int null = open("/dev/null", O_WRONLY), zero = open("/dev/zero", O_RDONLY);
    CHECK(null >= 0 && zero >= 0);
    ready();
    while (fgets(line, sizeof line, stdin) && strcmp(line, "finish\n") != 0) {
        double start = seconds(CLOCK_MONOTONIC);
        for (int i = 0; i < TIMES; i++)
            syscall(SYS_getpid);
        double local = each(start);
        start = seconds(CLOCK_MONOTONIC);
        for (int i = 0; i < TIMES; i++)
            CHECK(write(null, buffer, 100) == 100);
        double small = each(start);
        start = seconds(CLOCK_MONOTONIC);
        for (int i = 0; i < TIMES; i++)
            CHECK(read(zero, buffer, 65536) == 65536);
        double large = each(start);
        printf("measured %.2f %.2f %.2f\n", local, small, large);
        fflush(stdout);
    }
    return 0;
}
