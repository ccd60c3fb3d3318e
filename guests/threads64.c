/* Sixty-four threads: mutexes, condition variables, barriers, robust and priority-inheriting locks, thread-locals, ids. */
#include "guest.h"
#include <pthread.h>
#include <sys/syscall.h>

enum { THREADS = 64, BOXES = 8 };
static pthread_mutex_t locks[BOXES], robust;
static pthread_cond_t filled[BOXES], emptied[BOXES];
static int boxes[BOXES], stop;
static long made[BOXES], taken[BOXES], robust_count, robust_wanted;
static pthread_barrier_t started;
static __thread uint64_t own[16];

static void check_self(pid_t tid, uint64_t seed)
{
    CHECK(syscall(SYS_gettid) == tid);
    for (int i = 0; i < 16; i++)
        CHECK(own[i] == seed + (uint64_t)i);
}

static void *work(void *argument)
{
    long number = (long)argument;
    int box = (int)(number % BOXES), makes = number / BOXES % 2 == 0;
    pid_t tid = (pid_t)syscall(SYS_gettid);
    for (int i = 0; i < 16; i++)
        own[i] = (uint64_t)number * 1000 + (uint64_t)i;
    pthread_barrier_wait(&started);
    long turns = 0;
    for (;; turns++) {
        CHECK(pthread_mutex_lock(&locks[box]) == 0);
        while (boxes[box] == makes && !stop)
            CHECK(pthread_cond_wait(makes ? &emptied[box] : &filled[box], &locks[box]) == 0);
        int end = stop && boxes[box] == makes;
        if (!end) {
            boxes[box] = makes;
            (*(makes ? &made[box] : &taken[box]))++;
            CHECK(pthread_cond_signal(makes ? &filled[box] : &emptied[box]) == 0);
        }
        CHECK(pthread_mutex_unlock(&locks[box]) == 0);
        if (end || stop)
            break;
        check_self(tid, (uint64_t)number * 1000);
        if (turns % 16 == 0) {
            CHECK(pthread_mutex_lock(&robust) == 0);
            robust_count++;
            __atomic_fetch_add(&robust_wanted, 1, __ATOMIC_RELAXED);
            CHECK(pthread_mutex_unlock(&robust) == 0);
            sleep_ms(1 + number % 5);
        }
    }
    check_self(tid, (uint64_t)number * 1000);
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    pthread_mutexattr_t inherit, robustly;
    CHECK(pthread_mutexattr_init(&inherit) == 0 && pthread_mutexattr_setprotocol(&inherit, PTHREAD_PRIO_INHERIT) == 0);
    CHECK(pthread_mutexattr_init(&robustly) == 0);
    CHECK(pthread_mutexattr_setrobust(&robustly, PTHREAD_MUTEX_ROBUST) == 0);
    CHECK(pthread_mutex_init(&robust, &robustly) == 0 && pthread_barrier_init(&started, NULL, THREADS + 1) == 0);
    for (int i = 0; i < BOXES; i++) {
        CHECK(pthread_mutex_init(&locks[i], i == 0 ? &inherit : NULL) == 0);
        CHECK(pthread_cond_init(&filled[i], NULL) == 0 && pthread_cond_init(&emptied[i], NULL) == 0);
    }
    for (long i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
    pthread_barrier_wait(&started);
    ready();
    while (!asked_to_finish(1000))
        ;
    for (int i = 0; i < BOXES; i++) {
        CHECK(pthread_mutex_lock(&locks[i]) == 0);
        __atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
        CHECK(pthread_cond_broadcast(&filled[i]) == 0 && pthread_cond_broadcast(&emptied[i]) == 0);
        CHECK(pthread_mutex_unlock(&locks[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(robust_count == robust_wanted);
    for (int i = 0; i < BOXES; i++)
        CHECK(made[i] > 0 && made[i] - taken[i] == boxes[i]);
    puts("threads64: nothing lost between sixty-four threads");
    return 0;
}
