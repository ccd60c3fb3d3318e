/* Nothing but computing: a sieve, a matrix, a sort, again and again, always with the same result. */
#include "guest.h"

enum { SIEVE = 2000000, SIDE = 96, SORTED = 200000 };

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t one_round(void)
{
    uint64_t result = 0, random = 42;
    char *composite = calloc(SIEVE, 1);
    uint64_t *list = malloc(SORTED * sizeof *list);
    double (*matrix)[SIDE] = malloc(3 * sizeof(double[SIDE][SIDE])), trace = 0;
    CHECK(composite && list && matrix);
    for (size_t i = 2; i < SIEVE; i++) {
        if (composite[i])
            continue;
        result++;
        for (size_t j = i * i; j < SIEVE; j += i)
            composite[j] = 1;
    }
    CHECK(result == 148933);
    for (size_t i = 0; i < SORTED; i++)
        list[i] = next_random(&random);
    qsort(list, SORTED, sizeof *list, ascending);
    for (size_t i = 1; i < SORTED; i++)
        CHECK(list[i - 1] <= list[i]);
    for (int i = 0; i < 2 * SIDE; i++)
        for (int j = 0; j < SIDE; j++)
            matrix[i][j] = (double)(next_random(&random) % 1000) / 7;
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
            matrix[2 * SIDE + i][j] = 0;
            for (int k = 0; k < SIDE; k++)
                matrix[2 * SIDE + i][j] += matrix[i][k] * matrix[SIDE + k][j];
        }
    for (int i = 0; i < SIDE; i++)
        trace += matrix[2 * SIDE + i][i];
    result ^= list[SORTED / 2] ^ (uint64_t)trace;
    free(composite);
    free(list);
    free(matrix);
    return result;
}

int main(void)
{
    ready();
    uint64_t first = one_round();
    while (!asked_to_finish(0))
        CHECK(one_round() == first);
    printf("compute: %016llx\n", (unsigned long long)first);
    return 0;
}
