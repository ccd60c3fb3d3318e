/* Hardly ever anywhere but inside vfork: its children take their time, and then end, are killed, or become another
 * program. A move in between has to wait for them, and they must not have to wait for the move.
 *
 * "vforks" alone works in rounds. With the argument "child" it is what its own exec makes of it. */
#include "guest.h"
#include <signal.h>
#include <sys/wait.h>

enum { CHILD_MS = 150, BREATH_MS = 20 };
static char self[4096];

/* The body of a child: in its maker's memory, which stands still. */
static void be_child(int number, volatile int *shared)
{
    char *words[] = { "vforks", "child", NULL }, *nothing[] = { NULL };
    *shared = number;
    sleep_ms(CHILD_MS);
    switch (number % 3) {
    case 0:
        _exit(9);
    case 1:
        kill(getpid(), SIGKILL);
        _exit(1);
    default:
        execve(self, words, nothing);
        _exit(1);
    }
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "child") == 0)
        return 11;
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    CHECK(length > 0);
    ready();
    static const int ends[] = { 9 << 8, SIGKILL, 11 << 8 };
    int number = 0;
    do {
        volatile int shared = -1;
        pid_t pid = vfork();
        CHECK(pid >= 0);
        if (pid == 0)
            be_child(number, &shared);
        CHECK(shared == number);
        int status;
        while (waitpid(pid, &status, 0) == -1)
            CHECK(errno == EINTR);
        CHECK(status == ends[number % 3]);
        number++;
    } while (!asked_to_finish(BREATH_MS));
    puts("vforks: everybody ended as told");
    return 0;
}
