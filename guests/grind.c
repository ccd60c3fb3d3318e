/* A computation of a known length that says at its end what it computed and how long it took.
 *
 * usage: grind MILLIONS [MEGABYTES]; so many million steps, in so much memory, which it fills first. */
#include "guest.h"

int main(int argc, char **argv)
{
    CHECK(argc == 2 || argc == 3);
    long millions = atol(argv[1]);
    size_t bytes = (argc == 3 ? (size_t)atol(argv[2]) : 1) << 20;
    unsigned char *memory = malloc(bytes);
    CHECK(memory);
    uint64_t random = 88172645463325252u, sum = 0;
    for (size_t i = 0; i < bytes; i++)
        memory[i] = (unsigned char)next_random(&random);
    ready();
    for (long i = 0; i < millions; i++)
        for (int j = 0; j < 1000000; j++) {
            uint64_t number = next_random(&random);
            sum += number ^ memory[number % bytes];
        }
    printf("ground %ld: %llu\n", millions, (unsigned long long)sum);
    return 0;
}
