/* Makes and joins 1000 threads, in waves that are all alive at once; each computes its part of one sum, and rests at
 * times: a machine where all of them compute at once would do nothing else.
 *
 * usage: threads1000 WAVES; 1000 must be a multiple of it. */
#include "guest.h"
#include <pthread.h>

#define THREADS 1000

struct part {
    int number;
    uint64_t sum;
};

static pthread_barrier_t all_here;

static void *work(void *argument)
{
    struct part *part = argument;
    uint64_t random = 88172645463325252u + (uint64_t)part->number;
    pthread_barrier_wait(&all_here);
    for (int i = 0; i < 300000; i++) {
        part->sum += next_random(&random) & 0xff;
        if (i % 30000 == 0)
            sleep_ms(20);
    }
    return part;
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    int waves = atoi(argv[1]), each = THREADS / waves, made = 0;
    uint64_t sum = 0;
    static pthread_t threads[THREADS];
    static struct part parts[THREADS];
    pthread_attr_t small;
    CHECK(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 64 << 10) == 0);
    for (int wave = 0; wave < waves; wave++) {
        CHECK(pthread_barrier_init(&all_here, NULL, (unsigned)each) == 0);
        for (int i = 0; i < each; i++) {
            parts[i] = (struct part) { .number = made++ };
            CHECK(pthread_create(&threads[i], &small, work, &parts[i]) == 0);
        }
        for (int i = 0; i < each; i++) {
            void *part;
            CHECK(pthread_join(threads[i], &part) == 0 && part == &parts[i]);
            sum += parts[i].sum;
        }
        CHECK(pthread_barrier_destroy(&all_here) == 0);
        printf("wave %d: %llu\n", wave, (unsigned long long)sum);
        fflush(stdout);
    }
    printf("%d threads\n", made);
    return 0;
}
