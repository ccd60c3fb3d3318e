/* A program that cares for its terminal: settings, size, interrupt, and reading by line and by key. */
#include "guest.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>

static volatile sig_atomic_t interrupts, resizes;

static void on_signal(int number)
{
    if (number == SIGINT)
        interrupts++;
    else
        resizes++;
}

int main(void)
{
    struct termios cooked, raw, now;
    struct winsize size;
    char line[128], name[128];
    struct sigaction action = { .sa_handler = on_signal };
    CHECK(sigaction(SIGINT, &action, NULL) == 0 && sigaction(SIGWINCH, &action, NULL) == 0);
    CHECK(isatty(0) && isatty(1) && tcgetattr(0, &cooked) == 0 && ttyname_r(0, name, sizeof name) == 0);
    CHECK(tcgetpgrp(0) == getpgrp() && tcgetsid(0) == getsid(0));
    int terminal = open("/dev/tty", O_RDWR);
    CHECK(terminal >= 0);
    /* The signals come only while it waits, so that none slips in between two waits unnoticed. */
    sigset_t ours, none;
    sigemptyset(&none);
    sigemptyset(&ours);
    sigaddset(&ours, SIGINT);
    sigaddset(&ours, SIGWINCH);
    CHECK(sigprocmask(SIG_BLOCK, &ours, NULL) == 0);
    ready();
    for (;;) {
        struct pollfd input = { .fd = 0, .events = POLLIN };
        if (ppoll(&input, 1, NULL, &none) < 0) {
            CHECK(errno == EINTR);
            printf("interrupts %d resizes %d\n", (int)interrupts, (int)resizes);
            fflush(stdout);
            continue;
        }
        ssize_t got = read(0, line, sizeof line - 1);
        CHECK(got > 0);
        line[got] = 0;
        if (strcmp(line, "size\n") == 0) {
            CHECK(ioctl(0, TIOCGWINSZ, &size) == 0);
            printf("%d rows, %d columns\n", size.ws_row, size.ws_col);
        } else if (strcmp(line, "key\n") == 0) {
            raw = cooked;
            raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
            CHECK(tcsetattr(0, TCSADRAIN, &raw) == 0 && tcgetattr(0, &now) == 0 && !(now.c_lflag & ICANON));
            CHECK(write(1, "which?\n", 7) == 7 && read(0, line, 1) == 1);
            CHECK(tcsetattr(0, TCSADRAIN, &cooked) == 0);
            printf("key %c\n", line[0]);
        } else if (strcmp(line, "who\n") == 0) {
            char again[128];
            CHECK(ttyname_r(0, again, sizeof again) == 0 && strcmp(name, again) == 0);
            CHECK(tcgetpgrp(terminal) == getpgrp() && dprintf(terminal, "still the same\n") == 15);
        } else if (strcmp(line, "finish\n") == 0) {
            break;
        } else {
            printf("line of %zd: %s", got, line);
        }
        fflush(stdout);
    }
    CHECK(tcgetattr(0, &now) == 0 && now.c_lflag == cooked.c_lflag && now.c_iflag == cooked.c_iflag);
    printf("tty: interrupts %d resizes %d\n", (int)interrupts, (int)resizes);
    return 0;
}
