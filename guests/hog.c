/* A program that wants more and more memory, and knows in the end what it has put there.
 *
 * usage: hog MEGABYTES AT_ONCE PER_SECOND; that much memory, some of it at once and the rest at that rate, and then it adds
 * up all of it. */
#include "guest.h"

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    long megabytes = atol(argv[1]), at_once = atol(argv[2]);
    double pause = 1.0 / (double)atol(argv[3]), began = seconds(CLOCK_MONOTONIC);
    uint64_t **memory = calloc((size_t)megabytes, sizeof *memory);
    CHECK(memory);
    uint64_t random = 88172645463325252u, wanted = 0, sum = 0;
    ready();
    for (long i = 0; i < megabytes; i++) {
        CHECK(memory[i] = malloc(1 << 20));
        for (int j = 0; j < (1 << 20) / 8; j++)
            wanted += memory[i][j] = next_random(&random);
        /* It computes until its time has come: who sleeps is no job. */
        while (seconds(CLOCK_MONOTONIC) - began < pause * (double)(i + 1 - at_once))
            wanted += next_random(&random) & 0;
    }
    for (long i = 0; i < megabytes; i++)
        for (int j = 0; j < (1 << 20) / 8; j++)
            sum += memory[i][j];
    CHECK(sum == wanted);
    printf("held %ld megabytes\n", megabytes);
    return 0;
}
