/* Writes of more than fits, in every way, each in a thread of its own: all of them are half done until a child begins to
 * take what they give, which it does when it is told to finish. Nobody may see that there was a move in between: each
 * count is whole, and every byte comes once and in its place. */
#include "guest.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

enum { LENGTH = 3000000 };
enum { WRITE, WRITE_SOCKET, WRITEV, SEND, SENDMSG, SENDFILE, KINDS };
static const char *const NAMES[KINDS] = { "write", "write-socket", "writev", "send", "sendmsg", "sendfile" };
static unsigned char *data;
static int give[KINDS], take[KINDS], file;

static ssize_t pour(int kind, size_t done)
{
    size_t left = LENGTH - done, first = left / 3;
    struct iovec parts[3] = { { data + done, first }, { NULL, 0 }, { data + done + first, left - first } };
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = 3 };
    off_t offset = (off_t)done;
    ssize_t count = -1;
    switch (kind) {
    case WRITE:
    case WRITE_SOCKET: return write(give[kind], data + done, left);
    case WRITEV: return writev(give[kind], parts, 3);
    case SEND: return send(give[kind], data + done, left, 0);
    case SENDMSG: return sendmsg(give[kind], &message, 0);
    case SENDFILE:
        count = sendfile(give[kind], file, &offset, left);
        CHECK(offset == (off_t)done + (count > 0 ? count : 0));
    }
    return count;
}

static void *give_all(void *which)
{
    int kind = (int)(intptr_t)which;
    for (size_t done = 0; done < LENGTH;) {
        ssize_t count = pour(kind, done);
        CHECK(count > 0);
        done += (size_t)count;
        if (done < LENGTH)
            printf("%s: short\n", NAMES[kind]);
    }
    CHECK(close(give[kind]) == 0);
    return NULL;
}

/* The child: takes everything once it is told to, and compares. */
static void take_all(void)
{
    static unsigned char buffer[50000];
    size_t taken[KINDS] = { 0 };
    while (!asked_to_finish(1000)) { }
    for (int open_ends = KINDS; open_ends > 0;)
        for (int kind = 0; kind < KINDS; kind++) {
            ssize_t got = take[kind] < 0 ? -1 : read(take[kind], buffer, sizeof buffer);
            if (take[kind] < 0)
                continue;
            CHECK(got >= 0 && taken[kind] + (size_t)got <= LENGTH);
            CHECK(memcmp(buffer, data + taken[kind], (size_t)got) == 0);
            taken[kind] += (size_t)got;
            if (got == 0) {
                CHECK(taken[kind] == LENGTH);
                take[kind] = -1;
                open_ends--;
            }
        }
    _exit(7);
}

int main(void)
{
    uint64_t state = 1;
    pthread_t threads[KINDS];
    CHECK((data = malloc(LENGTH)) != NULL && (file = memfd_create("data", 0)) >= 0);
    for (size_t i = 0; i < LENGTH; i++)
        data[i] = (unsigned char)next_random(&state);
    for (size_t done = 0; done < LENGTH;) {
        ssize_t count = write(file, data + done, LENGTH - done);
        CHECK(count > 0);
        done += (size_t)count;
    }
    for (int kind = 0; kind < KINDS; kind++) {
        int ends[2];
        int is_socket = kind != WRITE && kind != WRITEV;
        CHECK(is_socket ? socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 : pipe(ends) == 0);
        take[kind] = ends[0], give[kind] = ends[1];
    }
    pid_t child = fork();
    CHECK(child >= 0);
    for (int kind = 0; kind < KINDS; kind++)
        CHECK(close(child == 0 ? give[kind] : take[kind]) == 0);
    if (child == 0)
        take_all();
    for (int kind = 0; kind < KINDS; kind++)
        CHECK(pthread_create(&threads[kind], NULL, give_all, (void *)(intptr_t)kind) == 0);
    ready();
    for (int kind = 0; kind < KINDS; kind++)
        CHECK(pthread_join(threads[kind], NULL) == 0);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    puts("halfdone: every byte came once and in its place");
    return 0;
}
