/* One blocked call of three seconds, of a chosen kind. A move in between must show neither in its result nor in its time.
 *
 * usage: restarts KIND */
#include "guest.h"
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

static const double WANTED = 3.0, EARLY = 0.005, LATE = 1.0;
static const struct timespec LONG = { 3, 0 };
static uint32_t word;

static void on_alarm(int signal)
{
    (void)signal;
}

static void *wake_later(void *nothing)
{
    sleep_ms(3000);
    __atomic_store_n(&word, 1, __ATOMIC_SEQ_CST);
    CHECK(syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) >= 0);
    return nothing;
}

/* A child that stays at home, and after three seconds writes a byte (if it has where to) and ends. */
static pid_t child(int fd)
{
    fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        sleep_ms(3000);
        _exit(fd >= 0 && write(fd, "x", 1) != 1 ? 9 : 7);
    }
    return pid;
}

static void arm(void)
{
    struct sigaction action = { .sa_handler = on_alarm };
    struct itimerval timer = { .it_value = { 3, 0 } };
    CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    const char *kind = argv[1];
    int is_child = 0, is_thread = 0, status = 0, ends[2], sockets[2], epoll = epoll_create1(0);
    pid_t pid = 0;
    pthread_t thread;
    char byte;
    struct timespec rest = { 0, 0 }, until;
    sigset_t none, usr;
    sigemptyset(&none);
    sigemptyset(&usr);
    sigaddset(&usr, SIGUSR1);
    CHECK(pipe(ends) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0 && epoll >= 0);
    struct pollfd quiet = { .fd = sockets[0], .events = POLLIN };
#define IS(name) (strcmp(kind, name) == 0)
    /* Before anybody begins to count who is to wake it: it may be held up in between. */
    double start = seconds(CLOCK_MONOTONIC);
    CHECK(clock_gettime(CLOCK_MONOTONIC, &until) == 0);
    until.tv_sec += 3;
    if (IS("read-pipe") || IS("wait4")) {
        is_child = 1;
        pid = child(IS("wait4") ? -1 : ends[1]);
    }
    if (IS("futex")) {
        is_thread = 1;
        CHECK(pthread_create(&thread, NULL, wake_later, NULL) == 0);
    }
    if (IS("sigsuspend") || IS("pause"))
        arm();
    if (IS("sigtimedwait"))
        CHECK(sigprocmask(SIG_BLOCK, &usr, NULL) == 0);
    ready();

    long result;
    errno = 0;
    if (IS("nanosleep"))
        result = nanosleep(&LONG, &rest);
    else if (IS("nanosleep-norem"))
        result = nanosleep(&LONG, NULL);
    else if (IS("clock-nanosleep-rel"))
        result = clock_nanosleep(CLOCK_MONOTONIC, 0, &LONG, &rest);
    else if (IS("clock-nanosleep-abs"))
        result = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    else if (IS("poll"))
        result = poll(&quiet, 1, 3000);
    else if (IS("ppoll"))
        result = ppoll(&quiet, 1, &LONG, &none);
    else if (IS("select")) {
        fd_set set;
        FD_ZERO(&set);
        FD_SET(sockets[0], &set);
        struct timeval timeout = { 3, 0 };
        result = select(sockets[0] + 1, &set, NULL, NULL, &timeout);
    } else if (IS("epoll-wait")) {
        struct epoll_event event = { .events = EPOLLIN };
        CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, sockets[0], &event) == 0);
        result = epoll_wait(epoll, &event, 1, 3000);
    } else if (IS("futex-timeout"))
        result = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &LONG, NULL, 0);
    else if (IS("futex-bitset"))
        result = syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, &until, NULL, FUTEX_BITSET_MATCH_ANY);
    else if (IS("futex"))
        result = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    else if (IS("read-pipe"))
        result = read(ends[0], &byte, 1);
    else if (IS("recv-timeout")) {
        struct timeval timeout = { 3, 0 };
        CHECK(setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == 0);
        result = recv(sockets[0], &byte, 1, 0);
    } else if (IS("wait4"))
        result = wait4(pid, &status, 0, NULL) == pid;
    else if (IS("sigsuspend"))
        result = sigsuspend(&none);
    else if (IS("pause"))
        result = pause();
    else if (IS("sigtimedwait"))
        result = sigtimedwait(&usr, NULL, &LONG);
    else
        CHECK(!"a known kind");
    int error = result == -1 ? errno : 0;
    double took = seconds(CLOCK_MONOTONIC) - start;

    if (took < WANTED - EARLY || took > WANTED + LATE)
        printf("%s: took %.3f s\n", kind, took);
    printf("%s: result %ld, errno %s\n", kind, result, error ? strerrorname_np(error) : "none");
    if (is_child && !IS("wait4"))
        CHECK(waitpid(pid, &status, 0) == pid);
    if (is_child)
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    if (is_thread)
        CHECK(pthread_join(thread, NULL) == 0);
    return 0;
}
