/* A member of a session that does what it is told, wherever its terminal is, and notes what came of it.
 *
 * usage: session ORDERS RESULTS; makes the named pipe ORDERS, and appends to the file RESULTS. */
#include "guest.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <termios.h>

static int results;

static void on_signal(int number)
{
    const char *text = number == SIGHUP ? "hung up\n" : "continued\n";
    CHECK(write(results, text, strlen(text)) > 0);
}

/* Notes what came of an order. */
static void note(const char *order, long result)
{
    dprintf(results, "%s: %s\n", order, result < 0 ? strerror(errno) : "done");
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    results = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    CHECK(results >= 0);
    /* Who started it may have it ignore them. */
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART }, before;
    CHECK(sigaction(SIGHUP, NULL, &before) == 0);
    if (before.sa_handler != SIG_IGN)
        CHECK(sigaction(SIGHUP, &action, NULL) == 0);
    CHECK(sigaction(SIGCONT, &action, NULL) == 0);
    CHECK(mkfifo(argv[1], 0600) == 0);
    int orders = open(argv[1], O_RDWR | O_CLOEXEC);
    CHECK(orders >= 0);
    FILE *lines = fdopen(orders, "r");
    CHECK(lines);
    dprintf(results, "pid %d\n", getpid());
    char order[64], line[256];
    while (fgets(order, sizeof order, lines)) {
        order[strcspn(order, "\n")] = 0;
        if (strcmp(order, "read") == 0) {
            ssize_t got = read(0, line, sizeof line - 1);
            line[got < 0 ? 0 : got] = 0;
            line[strcspn(line, "\n")] = 0;
            dprintf(results, "read: %s\n", got < 0 ? strerror(errno) : line);
        } else if (strcmp(order, "write") == 0) {
            note(order, write(1, "written\n", 8));
        } else if (strcmp(order, "setsid") == 0) {
            note(order, setsid());
        } else if (strcmp(order, "terminal") == 0) {
            int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC);
            note(order, terminal);
            close(terminal);
        } else if (strcmp(order, "settings") == 0) {
            struct termios now;
            CHECK(tcgetattr(0, &now) == 0);
            note(order, tcsetattr(0, TCSADRAIN, &now));
        } else if (strcmp(order, "ids") == 0) {
            dprintf(results, "ids: group %s, session %s, foreground %s\n", getpgrp() == getpid() ? "own" : "another's",
                getsid(0) == getpid() ? "own" : "another's", tcgetpgrp(0) == getpgrp() ? "yes" : "no");
        } else if (strcmp(order, "quit") == 0) {
            dprintf(results, "quit\n");
            return 0;
        }
    }
    return 1;
}
