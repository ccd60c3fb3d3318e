/* Sits on a host with things that a guest there must not reach, and tells whether anybody did.
 *
 * usage: victim. On each line of input it answers "untouched", or what was done to it. */
#include "guest.h"
#include <fcntl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <sched.h>
#include <stddef.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/utsname.h>

static const char secret[] = "the host's secret";
static char memory[] = "the host's secret";
static volatile sig_atomic_t signals;

static void count(int signal)
{
    (void)signal;
    signals++;
}

static uint64_t vdso_sum(void)
{
    const uint64_t *words = (const uint64_t *)getauxval(AT_SYSINFO_EHDR);
    uint64_t sum = 0;
    for (int i = 0; words && i < 512; i++)
        sum = sum * 31 + words[i];
    return sum;
}

static int tracer(void)
{
    char line[256];
    int found = -1;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        sscanf(line, "TracerPid: %d", &found);
    if (status)
        fclose(status);
    return found;
}

static int listener(int domain, const void *address, socklen_t length)
{
    int fd = socket(domain, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK(fd >= 0);
    CHECK(bind(fd, address, length) == 0);
    CHECK(listen(fd, 8) == 0);
    return fd;
}

int main(void)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = "\0om-victim" };
    struct sockaddr_in port = { .sin_family = AF_INET, .sin_port = htons(7777) };
    struct utsname before, now;
    struct rlimit files_before, files_now;
    cpu_set_t cpus_before, cpus_now;
    char line[64], read_back[64] = "";

    for (int signal = 1; signal < 32; signal++)
        if (signal != SIGKILL && signal != SIGSTOP && signal != SIGCHLD)
            CHECK(sigaction(signal, &(struct sigaction){ .sa_handler = count, .sa_flags = SA_RESTART }, NULL) == 0);
    int unix_socket = listener(AF_UNIX, &name, offsetof(struct sockaddr_un, sun_path) + sizeof "\0om-victim" - 1);
    int tcp_socket = listener(AF_INET, &port, sizeof port);
    int file = open("/tmp/om-victim", O_RDWR | O_CREAT | O_TRUNC, 0666);
    CHECK(file >= 0 && fchmod(file, 0666) == 0 && write(file, secret, sizeof secret) == sizeof secret);
    int segment = shmget(0x6f6d, 4096, IPC_CREAT | 0666);
    CHECK(segment >= 0);
    char *shared = shmat(segment, NULL, 0);
    CHECK(shared != (void *)-1);
    /* Gone when we are. */
    shmctl(segment, IPC_RMID, NULL);
    memcpy(shared, secret, sizeof secret);
    mqd_t queue = mq_open("/om-victim", O_RDWR | O_CREAT | O_NONBLOCK, 0666, NULL);
    CHECK(uname(&before) == 0);
    CHECK(getrlimit(RLIMIT_NOFILE, &files_before) == 0);
    CHECK(sched_getaffinity(0, sizeof cpus_before, &cpus_before) == 0);
    int nice_before = getpriority(PRIO_PROCESS, 0);
    uint64_t vdso = vdso_sum();
    double ahead = seconds(CLOCK_REALTIME) - seconds(CLOCK_MONOTONIC);
    ready();

    while (fgets(line, sizeof line, stdin)) {
        struct { const char *what; int untouched; } facts[] = {
            { "signalled", signals == 0 },
            { "traced", tracer() == 0 },
            { "connected to by name", accept(unix_socket, NULL, NULL) < 0 },
            { "connected to by port", accept(tcp_socket, NULL, NULL) < 0 },
            { "written to", memcmp(memory, secret, sizeof secret) == 0 },
            { "its file written to",
              pread(file, read_back, sizeof read_back, 0) == sizeof secret && !memcmp(read_back, secret, sizeof secret) },
            { "its shared memory written to", memcmp(shared, secret, sizeof secret) == 0 },
            { "its queue filled", queue == (mqd_t)-1 || mq_receive(queue, (char[8192]){ 0 }, 8192, NULL) < 0 },
            { "its host renamed", uname(&now) == 0 && !strcmp(before.nodename, now.nodename) },
            { "its limits changed",
              !getrlimit(RLIMIT_NOFILE, &files_now) && !memcmp(&files_before, &files_now, sizeof files_now) },
            { "its CPUs changed",
              !sched_getaffinity(0, sizeof cpus_now, &cpus_now) && CPU_EQUAL(&cpus_before, &cpus_now) },
            { "its priority changed", getpriority(PRIO_PROCESS, 0) == nice_before },
            { "its vDSO written to", vdso_sum() == vdso },
            { "its clock set", seconds(CLOCK_REALTIME) - seconds(CLOCK_MONOTONIC) - ahead < 1.0
              && seconds(CLOCK_REALTIME) - seconds(CLOCK_MONOTONIC) - ahead > -1.0 },
        };
        int touched = 0;
        for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
            if (!facts[i].untouched) {
                printf("it was %s; ", facts[i].what);
                touched = 1;
            }
        puts(touched ? "touched" : "untouched");
        fflush(stdout);
    }
    mq_unlink("/om-victim");
    unlink("/tmp/om-victim");
    return 0;
}
