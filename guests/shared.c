/* Shares writable memory with a child; must stay at home as long as it does. */
#include "guest.h"
#include <sys/mman.h>
#include <sys/wait.h>

int main(void)
{
    volatile int *word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(word != MAP_FAILED);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        while (*word == 0)
            sleep_ms(10);
        _exit(*word);
    }
    ready();
    while (!asked_to_finish(1000))
        ;
    *word = 5;
    int status;
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5);
    puts("unharmed");
    return 0;
}
