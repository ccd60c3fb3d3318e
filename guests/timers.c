/* Timers of every kind; one of them runs all the time. */
#include "guest.h"
#include <signal.h>
#include <sys/time.h>
#include <sys/timerfd.h>

static volatile sig_atomic_t alarms, posix, steady;

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (number == SIGALRM)
        alarms++;
    else if (number == SIGRTMIN && info->si_code == SI_TIMER && info->si_value.sival_int == 17)
        posix += 1 + info->si_overrun;
    else if (number == SIGRTMIN + 1 && info->si_code == SI_TIMER)
        steady += 1 + info->si_overrun;
}

/* Waits until a counter has its value; says how long that took from a moment before the timer was set: a program that is
 * held up behind it finds it run already. */
static double wait_until(volatile sig_atomic_t *counter, int value, double since)
{
    double start = seconds(CLOCK_MONOTONIC);
    sigset_t all, before;
    sigfillset(&all);
    CHECK(sigprocmask(SIG_BLOCK, &all, &before) == 0);
    while (*counter < value) {
        sigsuspend(&before);
        CHECK(seconds(CLOCK_MONOTONIC) - start < 20);
    }
    CHECK(sigprocmask(SIG_SETMASK, &before, NULL) == 0);
    return seconds(CLOCK_MONOTONIC) - since;
}

static timer_t make_timer(int signal, int value)
{
    timer_t timer;
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = signal, .sigev_value.sival_int = value };
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    return timer;
}

int main(void)
{
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
    CHECK(sigaction(SIGALRM, &action, NULL) == 0 && sigaction(SIGRTMIN, &action, NULL) == 0);
    CHECK(sigaction(SIGRTMIN + 1, &action, NULL) == 0);
    timer_t always = make_timer(SIGRTMIN + 1, 0);
    struct itimerspec tick = { { 0, 50000000 }, { 0, 50000000 } };
    int descriptor = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC);
    CHECK(timer_settime(always, 0, &tick, NULL) == 0);
    CHECK(descriptor >= 0 && timerfd_settime(descriptor, 0, &tick, NULL) == 0);
    double start = seconds(CLOCK_MONOTONIC);
    ready();
    int rounds = 0;
    do {
        alarms = posix = 0;
        struct itimerval once = { { 0, 0 }, { 0, 200000 } }, each = { { 0, 50000 }, { 0, 50000 } }, none = { { 0, 0 }, { 0, 0 } }, left;
        double since = seconds(CLOCK_MONOTONIC);
        CHECK(setitimer(ITIMER_REAL, &once, NULL) == 0);
        CHECK(getitimer(ITIMER_REAL, &left) == 0 && left.it_value.tv_usec <= 200000 && left.it_interval.tv_usec == 0);
        CHECK(wait_until(&alarms, 1, since) > 0.15);
        since = seconds(CLOCK_MONOTONIC);
        CHECK(setitimer(ITIMER_REAL, &each, NULL) == 0 && wait_until(&alarms, 4, since) > 0.1);
        CHECK(setitimer(ITIMER_REAL, &none, &left) == 0 && left.it_interval.tv_usec == 50000);
        int seen = alarms;
        since = seconds(CLOCK_MONOTONIC);
        CHECK(alarm(1) == 0 && wait_until(&alarms, seen + 1, since) > 0.9 && alarm(0) == 0);
        timer_t timer = make_timer(SIGRTMIN, 17);
        struct itimerspec shot = { { 0, 20000000 }, { 0, 100000000 } }, rest;
        since = seconds(CLOCK_MONOTONIC);
        CHECK(timer_settime(timer, 0, &shot, NULL) == 0 && timer_gettime(timer, &rest) == 0);
        CHECK(rest.it_interval.tv_nsec == 20000000 && wait_until(&posix, 5, since) > 0.1);
        CHECK(timer_delete(timer) == 0 && timer_gettime(timer, &rest) == -1 && errno == EINVAL);
    } while (++rounds < 1 || !asked_to_finish(0));
    uint64_t expirations;
    CHECK(read(descriptor, &expirations, 8) == 8);
    double ticks = (seconds(CLOCK_MONOTONIC) - start) / 0.05;
    /* A clock that stops with the program would have lost many; one tick may be on its way. */
    CHECK((double)expirations <= ticks + 1 && (double)expirations >= ticks - 3);
    CHECK(steady >= 5 && steady <= ticks + 1);
    CHECK(timer_delete(always) == 0);
    puts("timers: each in its time");
    return 0;
}
