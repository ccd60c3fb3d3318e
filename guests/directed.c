/* Threads queue signals with values for each other (pthread_sigqueue), and some for their process: each of the former is taken by the
 * thread that it is for, and nothing is lost, doubled or changed. */
#include "guest.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

enum { THREADS = 4, BURST = 3 };
#define DIRECTED (SIGRTMIN + 1)
#define SHARED (SIGRTMIN + 2)

static pthread_t threads[THREADS];
static __thread int self = -1;
static atomic_int taken[THREADS], present, shared, wrong, done;

static void take(int signal, siginfo_t *info, void *context)
{
    (void)context;
    if (info->si_code != SI_QUEUE || info->si_pid != getpid())
        atomic_fetch_add(&wrong, 1);
    if (signal == SHARED)
        atomic_fetch_add(&shared, info->si_value.sival_int);
    else if (info->si_value.sival_int == self)
        atomic_fetch_add(&taken[self], 1);
    else
        atomic_fetch_add(&wrong, 1);
}

static void *wait_for_them(void *number)
{
    self = (int)(intptr_t)number;
    atomic_fetch_add(&present, 1);
    while (!done) {
        struct timespec pause = { .tv_nsec = 20000000 };
        /* Half of them sleep, half of them wait in a call that is made at home. */
        if (self % 2 == 0)
            nanosleep(&pause, NULL);
        else
            poll(NULL, 0, 20);
    }
    return NULL;
}

int main(void)
{
    struct sigaction action = { .sa_sigaction = take, .sa_flags = SA_SIGINFO | SA_RESTART };
    CHECK(sigaction(DIRECTED, &action, NULL) == 0 && sigaction(SHARED, &action, NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, wait_for_them, (void *)(intptr_t)i) == 0);
    /* They have said who they are before anything is for them. */
    while (present < THREADS)
        sleep_ms(1);
    ready();
    int sent = 0;
    do {
        for (int burst = 0; burst < BURST; burst++, sent++) {
            for (int i = 0; i < THREADS; i++) {
                int error;
                while ((error = pthread_sigqueue(threads[i], DIRECTED, (union sigval){ .sival_int = i })) == EAGAIN)
                    sleep_ms(1);
                CHECK(error == 0);
            }
            while (sigqueue(getpid(), SHARED, (union sigval){ .sival_int = 1 }) != 0) {
                CHECK(errno == EAGAIN);
                sleep_ms(1);
            }
        }
    } while (!asked_to_finish(5));
    double patience = seconds(CLOCK_MONOTONIC) + 20;
    for (int i = 0; i < THREADS; i++)
        while (taken[i] < sent && seconds(CLOCK_MONOTONIC) < patience)
            sleep_ms(5);
    while (shared < sent && seconds(CLOCK_MONOTONIC) < patience)
        sleep_ms(5);
    sleep_ms(50);
    done = 1;
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        if (taken[i] != sent)
            fprintf(stderr, "of %d signals, thread %d took %d\n", sent, i, taken[i]);
    for (int i = 0; i < THREADS; i++)
        CHECK(taken[i] == sent);
    CHECK(shared == sent && wrong == 0);
    puts("each was taken by whom it was for");
    return 0;
}
