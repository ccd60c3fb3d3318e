/* Holds an io_uring; must stay at home as long as it does. */
#include "guest.h"
#include <sys/syscall.h>

int main(void)
{
    char parameters[120] = { 0 };
    long ring = syscall(425, 4, parameters);
    if (ring < 0) {
        puts("no io_uring here");
        return 77;
    }
    ready();
    while (!asked_to_finish(1000))
        ;
    puts("unharmed");
    return 0;
}
