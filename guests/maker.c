/* Looks at clocks all the time, while signals interrupt it; and when a line "code" comes, makes code and runs it. */
#include "guest.h"
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>

static volatile sig_atomic_t interruptions;

static void interrupted(int signal)
{
    (void)signal;
    struct timespec now;
    CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0);
    interruptions++;
}

/* No clock goes back, and all of one kind agree. */
static void look_at_clocks(void)
{
    static struct timespec before;
    struct timespec now, coarse, real;
    struct timeval day;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    CHECK(now.tv_sec > before.tv_sec || (now.tv_sec == before.tv_sec && now.tv_nsec >= before.tv_nsec));
    before = now;
    CHECK(clock_gettime(CLOCK_MONOTONIC_COARSE, &coarse) == 0);
    CHECK(labs((long)(coarse.tv_sec - now.tv_sec)) < 3600);
    CHECK(gettimeofday(&day, NULL) == 0 && clock_gettime(CLOCK_REALTIME, &real) == 0);
    CHECK(labs((long)(real.tv_sec - day.tv_sec)) < 3600 && labs((long)(real.tv_sec - time(NULL))) < 3600);
    CHECK(clock_getres(CLOCK_MONOTONIC, &real) == 0 && real.tv_sec == 0 && real.tv_nsec > 0);
    CHECK(sched_getcpu() >= 0);
}

static void make_code(void)
{
    /* mov eax, 42; ret */
    static const unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 };
    unsigned char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    memcpy(page, code, sizeof code);
    CHECK(mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0);
    printf("made %d\n", ((int (*)(void))page)());
    fflush(stdout);
}

/* Whether a line has come; it is put into `line`. */
static int heard(char *line, size_t size)
{
    struct pollfd input = { .fd = 0, .events = POLLIN };
    if (poll(&input, 1, 0) <= 0)
        return 0;
    CHECK(fgets(line, (int)size, stdin) != NULL);
    return 1;
}

int main(void)
{
    char line[64];
    struct sigaction action = { .sa_handler = interrupted, .sa_flags = SA_RESTART };
    struct itimerval often = { { 0, 5000 }, { 0, 5000 } };
    setvbuf(stdin, NULL, _IONBF, 0);
    CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &often, NULL) == 0);
    ready();
    for (;;) {
        for (int i = 0; i < 1000; i++)
            look_at_clocks();
        if (!heard(line, sizeof line))
            continue;
        if (strcmp(line, "finish\n") == 0)
            break;
        make_code();
    }
    CHECK(interruptions > 0);
    puts("unharmed");
    return 0;
}
