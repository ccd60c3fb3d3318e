/* Sends numbered real-time signals; when the queue is full it waits, so that none is lost on its side.
 *
 * usage: sendsig PID COUNT [PAUSE]: with a pause of so many microseconds after each; otherwise in bursts. */
#include "guest.h"
#include <signal.h>

int main(int argc, char **argv)
{
    CHECK(argc == 3 || argc == 4);
    pid_t pid = atoi(argv[1]);
    int count = atoi(argv[2]);
    int pause = argc == 4 ? atoi(argv[3]) : 0;
    uint64_t random = 5;
    for (int i = 0; i < count; i++) {
        union sigval value = { .sival_int = i };
        while (sigqueue(pid, SIGRTMIN + 1, value) != 0) {
            CHECK(errno == EAGAIN);
            sleep_ms(1);
        }
        if (pause > 0)
            usleep(pause);
        else if (next_random(&random) % 8 == 0)
            sleep_ms(1);
    }
    printf("sent %d\n", count);
    return 0;
}
