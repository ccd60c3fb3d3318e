/* A processor-bound loop without any system call in it but one look at its input now and then. */
#include "guest.h"

int main(void)
{
    uint64_t first = 0;
    ready();
    do {
        volatile uint64_t x = 1;
        for (int i = 0; i < 50000000; i++)
            x = x * 6364136223846793005u + 1442695040888963407u;
        CHECK(first == 0 || first == x);
        first = x;
    } while (!asked_to_finish(0));
    puts("loop: done");
    return 0;
}
