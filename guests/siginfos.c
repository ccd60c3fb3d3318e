/* Standard signals that come faster than they are handled: some are merged, and each that is handled tells truly who sent it,
 * how, and with which value. */
#include "guest.h"
#include <pthread.h>
#include <signal.h>

static volatile int last, wrong_code, wrong_sender, wrong_value, done;
static pid_t self;

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    if (info->si_code != SI_QUEUE) {
        wrong_code = info->si_code ? info->si_code : 1000;
        return;
    }
    if (info->si_pid != self || info->si_uid != getuid())
        wrong_sender++;
    if (info->si_value.sival_int <= last)
        wrong_value++;
    last = info->si_value.sival_int;
}

/* Sends them; each value is greater than the one before. */
static void *sender(void *argument)
{
    (void)argument;
    union sigval value = { .sival_int = 0 };
    while (!done) {
        for (int burst = 0; burst < 8; burst++) {
            value.sival_int++;
            CHECK(sigqueue(self, SIGUSR1, value) == 0);
        }
        sleep_ms(1);
    }
    return NULL;
}

int main(void)
{
    self = getpid();
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    sigset_t set;
    CHECK(sigemptyset(&set) == 0 && sigaddset(&set, SIGUSR1) == 0);
    CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, sender, NULL) == 0);
    CHECK(pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0);
    ready();
    do {
        CHECK(wrong_code == 0);
        CHECK(wrong_sender == 0);
        CHECK(wrong_value == 0);
    } while (!asked_to_finish(20));
    done = 1;
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(wrong_code == 0 && wrong_sender == 0 && wrong_value == 0 && last > 0);
    puts("siginfos: all of them true");
    return 0;
}
