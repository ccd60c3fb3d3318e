/* A computation that needs more and more memory, by its own work and not by the clock: where it gets little of a CPU it
 * grows slowly.
 *
 * usage: grow MEGABYTES [STEPS]; STEPS million steps of work for each megabyte. */
#include "guest.h"

int main(int argc, char **argv)
{
    CHECK(argc == 2 || argc == 3);
    long megabytes = atol(argv[1]);
    long steps = argc == 3 ? atol(argv[2]) : 1;
    uint64_t random = 88172645463325252u, sum = 0;
    ready();
    for (long i = 0; i < megabytes; i++) {
        unsigned char *memory = malloc(1 << 20);
        CHECK(memory);
        for (size_t j = 0; j < 1 << 20; j++)
            memory[j] = (unsigned char)next_random(&random);
        for (long j = 0; j < steps * 1000000; j++) {
            uint64_t number = next_random(&random);
            sum += number ^ memory[number & ((1 << 20) - 1)];
        }
    }
    printf("grew to %ld: %llu\n", megabytes, (unsigned long long)sum);
    return 0;
}
