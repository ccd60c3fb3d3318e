/* Threads, forks, vforks and other programs, made and ended all the time: ids, statuses, pipes and memory are right.
 *
 * "family" alone works in rounds. With the arguments "child N" it is what its own exec makes of it. */
#include "guest.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { THREADS = 8 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long sum;
static volatile sig_atomic_t children;
static char self[4096];
extern char **environ;

static void child_ended(int signal)
{
    (void)signal;
    children++;
}

static void *add(void *argument)
{
    pid_t tid = (pid_t)syscall(SYS_gettid);
    CHECK(tid != getpid() && (pid_t)syscall(SYS_gettid) == tid);
    pthread_mutex_lock(&lock);
    sum += (long)argument;
    pthread_mutex_unlock(&lock);
    return (void *)((long)argument + 1);
}

static void threads(void)
{
    pthread_t all[THREADS];
    sum = 0;
    for (long i = 0; i < THREADS; i++)
        CHECK(pthread_create(&all[i], NULL, add, (void *)i) == 0);
    for (long i = 0; i < THREADS; i++) {
        void *result;
        CHECK(pthread_join(all[i], &result) == 0 && (long)result == i + 1);
    }
    CHECK(sum == THREADS * (THREADS - 1) / 2);
}

static void wait_for(pid_t pid, int wanted)
{
    int status = -1;
    pid_t got;
    while ((got = waitpid(pid, &status, 0)) == -1 && errno == EINTR)
        ;
    CHECK(got == pid && status == wanted);
}

/* A child sees its own copy of the memory, its parent, and the pipe. */
static void forks(int depth, int number)
{
    int ends[2], word = 7 * number, private = number;
    pid_t parent = getpid();
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK(getppid() == parent && getpid() != parent && (pid_t)syscall(SYS_gettid) == getpid());
        CHECK(private == number);
        private = -1;
        if (depth > 0)
            forks(depth - 1, number + 1);
        threads();
        CHECK(write(ends[1], &word, sizeof word) == sizeof word);
        _exit(number % 100);
    }
    CHECK(close(ends[1]) == 0);
    int got = 0;
    ssize_t length;
    while ((length = read(ends[0], &got, sizeof got)) == -1 && errno == EINTR)
        ;
    CHECK(length == sizeof got && got == word && private == number);
    while ((length = read(ends[0], &got, sizeof got)) == -1 && errno == EINTR)
        ;
    CHECK(length == 0 && close(ends[0]) == 0);
    wait_for(pid, number % 100 << 8);
}

/* One dies of a signal, one is killed. */
static void deaths(void)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        signal(SIGUSR1, SIG_DFL);
        raise(SIGUSR1);
        _exit(1);
    }
    wait_for(pid, SIGUSR1);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        for (;;)
            pause();
    CHECK(kill(pid, SIGKILL) == 0);
    wait_for(pid, SIGKILL);
}

/* posix_spawn, vfork with its shared memory, and their failures. */
static void programs(int number)
{
    char text[16];
    snprintf(text, sizeof text, "%d", number % 100);
    char *words[] = { "family", "child", text, NULL }, *nothing[] = { "no such program", NULL };
    pid_t pid;
    CHECK(posix_spawn(&pid, self, NULL, NULL, words, environ) == 0);
    wait_for(pid, number % 100 << 8);
    CHECK(posix_spawn(&pid, "/no/such/program", NULL, NULL, nothing, environ) == ENOENT);
    volatile int shared = 0;
    pid = vfork();
    CHECK(pid >= 0);
    if (pid == 0) {
        shared = number;
        execve("/no/such/program", nothing, environ);
        _exit(errno == ENOENT ? 9 : 1);
    }
    CHECK(shared == number);
    wait_for(pid, 9 << 8);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGUSR2);
        sigprocmask(SIG_BLOCK, &set, NULL);
        signal(SIGHUP, SIG_IGN);
        execv(self, words);
        _exit(1);
    }
    wait_for(pid, number % 100 << 8);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "child") == 0)
        return atoi(argv[2]);
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    CHECK(length > 0);
    signal(SIGCHLD, child_ended);
    ready();
    int rounds = 0;
    do {
        threads();
        forks(2, rounds);
        deaths();
        programs(rounds);
        rounds++;
    } while (!asked_to_finish(20));
    CHECK(children > 0 && waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    puts("family: nobody is missing");
    return 0;
}
