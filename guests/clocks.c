/* No clock goes back or jumps, whether it is read in the program (vdso) or by a system call, and both agree. */
#include "guest.h"
#include <sys/syscall.h>
#include <sys/time.h>

static const clockid_t CLOCKS[] = { CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_COARSE };
enum { COUNT = sizeof CLOCKS / sizeof CLOCKS[0] };

static double by_call(clockid_t clock)
{
    struct timespec now;
    CHECK(syscall(SYS_clock_gettime, clock, &now) == 0);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int main(void)
{
    double last[COUNT], first_real = seconds(CLOCK_REALTIME), first = seconds(CLOCK_MONOTONIC);
    for (int i = 0; i < COUNT; i++)
        last[i] = seconds(CLOCKS[i]);
    ready();
    do {
        for (int n = 0; n < 20000; n++) {
            int i = n % COUNT;
            double now = seconds(CLOCKS[i]);
            if (now < last[i] || now - last[i] >= 2)
                fprintf(stderr, "clock %d: %.9f after %.9f\n", (int)CLOCKS[i], now, last[i]);
            CHECK(now >= last[i] && now - last[i] < 2);
            last[i] = now;
            if (n % 100 == 0) {
                double called = by_call(CLOCKS[i]);
                CHECK(called - now > -0.02 && called - now < 2);
                now = called > now ? called : now;
                last[i] = now;
            }
        }
        struct timeval day;
        CHECK(gettimeofday(&day, NULL) == 0 && time(NULL) + 1 >= day.tv_sec);
        double drift = seconds(CLOCK_REALTIME) - first_real - (seconds(CLOCK_MONOTONIC) - first);
        CHECK(drift > -2 && drift < 2);
    } while (!asked_to_finish(0));
    puts("clocks: time only went on");
    return 0;
}
