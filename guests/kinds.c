/* Measures what calls of each kind cost, and what threads, children and other programs cost to make.
 *
 * Told "measure" it prints one line of microseconds, medians, in the order of the table below; anything else ends it. */
#include "guest.h"
#include <fcntl.h>
#include <spawn.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { CALLS = 1000, BIRTHS = 60 };

static int null, zero, ends[2], pair[2];
static char page[4096];
static char *const arguments[] = { "/bin/true", NULL };
extern char **environ;

static void one_getpid(void) { syscall(SYS_getpid); }

static void one_map(void)
{
    void *memory = mmap(NULL, sizeof page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED && munmap(memory, sizeof page) == 0);
}

static void one_flags(void) { CHECK(fcntl(null, F_GETFL) >= 0); }
static void one_seek(void) { CHECK(lseek(zero, 0, SEEK_SET) == 0); }
static void one_write(void) { CHECK(write(null, page, 100) == 100); }
static void one_read(void) { CHECK(read(zero, page, 100) == 100); }
static void one_large_write(void) { CHECK(write(null, page, sizeof page) == sizeof page); }

static void one_stat(void)
{
    struct stat data;
    CHECK(stat("/etc/passwd", &data) == 0);
}

static void one_open(void)
{
    int file = open("/etc/passwd", O_RDONLY);
    CHECK(file >= 0 && close(file) == 0);
}

static void one_poll(void)
{
    struct pollfd both[2] = { { .fd = ends[0], .events = POLLIN }, { .fd = pair[0], .events = POLLIN } };
    CHECK(poll(both, 2, 0) == 0);
}

static void one_pipe(void)
{
    CHECK(write(ends[1], page, 100) == 100 && read(ends[0], page, 100) == 100);
}

static void one_message(void)
{
    CHECK(send(pair[1], page, 100, 0) == 100 && recv(pair[0], page, 100, 0) == 100);
}

static void one_kill(void) { CHECK(kill(getpid(), 0) == 0); }

static void *nothing(void *argument) { return argument; }

static void one_thread(void)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0);
}

static void await(pid_t child)
{
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static void one_fork(void)
{
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    await(child);
}

static void one_exec(void)
{
    pid_t child = fork();
    if (child == 0) {
        execv(arguments[0], arguments);
        _exit(1);
    }
    await(child);
}

static void one_spawn(void)
{
    pid_t child;
    CHECK(posix_spawn(&child, arguments[0], NULL, NULL, arguments, environ) == 0);
    await(child);
}

static const struct {
    void (*once)(void);
    int times;
} kinds[] = {
    { one_getpid, CALLS },
    { one_map, CALLS },
    { one_flags, CALLS },
    { one_seek, CALLS },
    { one_write, CALLS },
    { one_read, CALLS },
    { one_large_write, CALLS },
    { one_stat, CALLS },
    { one_open, CALLS },
    { one_poll, CALLS },
    { one_pipe, CALLS },
    { one_message, CALLS },
    { one_kill, CALLS },
    { one_thread, BIRTHS },
    { one_fork, BIRTHS },
    { one_spawn, BIRTHS },
    { one_exec, BIRTHS },
};

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(void)
{
    static double times[CALLS];
    char line[64];
    CHECK((null = open("/dev/null", O_WRONLY)) >= 0 && (zero = open("/dev/zero", O_RDONLY)) >= 0);
    CHECK(pipe(ends) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    ready();
    while (fgets(line, sizeof line, stdin) && strcmp(line, "measure\n") == 0) {
        printf("measured");
        fflush(stdout);
        for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
            for (int i = 0; i < kinds[kind].times; i++) {
                double start = seconds(CLOCK_MONOTONIC);
                kinds[kind].once();
                times[i] = seconds(CLOCK_MONOTONIC) - start;
            }
            qsort(times, (size_t)kinds[kind].times, sizeof *times, compare);
            printf(" %.4f", times[kinds[kind].times / 2] * 1e6);
        }
        puts("");
        fflush(stdout);
    }
    return 0;
}
