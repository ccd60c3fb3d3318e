/* Computes a sentence that stands in no file, and then dies with a core dump. */
#include "guest.h"
#include <sys/resource.h>

int main(void)
{
    struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
    CHECK(setrlimit(RLIMIT_CORE, &all) == 0);
    ready();
    while (!asked_to_finish(1000)) {
    }
    unsigned long long sum = 0;
    for (unsigned i = 0; i < 1000000; i++)
        sum += i;
    char *sentence = malloc(100);
    CHECK(sentence);
    snprintf(sentence, 100, "the sum is %llu", sum);
    abort();
}
