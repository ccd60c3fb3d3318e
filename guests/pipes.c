/* Waiting in every way for pipes, sockets, eventfds and timers, between two threads of the program.
 *
 * The echo thread exists before "ready"; it sends back what comes, on every connection. */
#include "guest.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>

enum { PIPE, PAIR, UNIX, TCP, DATAGRAM, KINDS };
static int near_in[KINDS], near_out[KINDS], far_in[KINDS], far_out[KINDS];

static void *echo(void *nothing)
{
    (void)nothing;
    struct pollfd all[KINDS];
    for (int i = 0; i < KINDS; i++)
        all[i] = (struct pollfd) { .fd = far_in[i], .events = POLLIN };
    for (int open_ends = KINDS; open_ends > 0;) {
        CHECK(poll(all, KINDS, -1) > 0);
        for (int i = 0; i < KINDS; i++) {
            if (!all[i].revents)
                continue;
            char buffer[70000];
            ssize_t got = read(far_in[i], buffer, sizeof buffer);
            CHECK(got >= 0);
            if (got == 0 || buffer[0] == '.') {
                all[i].fd = -1;
                open_ends--;
                continue;
            }
            for (ssize_t done = 0; done < got;) {
                ssize_t put = write(far_out[i], buffer + done, (size_t)(got - done));
                CHECK(put > 0);
                done += put;
            }
        }
    }
    return NULL;
}

static void both_ways(int kind, int fds[2])
{
    near_in[kind] = near_out[kind] = fds[0];
    far_in[kind] = far_out[kind] = fds[1];
}

static void connected(int kind, int domain, struct sockaddr *address, socklen_t length)
{
    int listener = socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0), fds[2];
    CHECK(listener >= 0 && bind(listener, address, length) == 0 && listen(listener, 4) == 0);
    length = sizeof(struct sockaddr_un);
    CHECK(getsockname(listener, address, &length) == 0);
    fds[0] = socket(domain, SOCK_STREAM, 0);
    CHECK(fds[0] >= 0 && connect(fds[0], address, length) == 0);
    fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    CHECK(fds[1] >= 0 && close(listener) == 0);
    both_ways(kind, fds);
}

static void set_up(void)
{
    int down[2], up[2], pair[2];
    CHECK(pipe(down) == 0 && pipe2(up, O_CLOEXEC) == 0);
    near_in[PIPE] = up[0], near_out[PIPE] = down[1], far_in[PIPE] = down[0], far_out[PIPE] = up[1];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    both_ways(PAIR, pair);
    struct sockaddr_un path = { .sun_family = AF_UNIX };
    /* An abstract name of the kernel's choice: nothing is left in the file system. */
    connected(UNIX, AF_UNIX, (struct sockaddr *)&path, sizeof(sa_family_t));
    union {
        struct sockaddr_in address;
        struct sockaddr_un room;
    } loopback = { .address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) } };
    connected(TCP, AF_INET, (struct sockaddr *)&loopback, sizeof loopback.address);
    int one = 1;
    CHECK(setsockopt(near_in[TCP], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
    both_ways(DATAGRAM, pair);
}

static void wait_for(int fd, unsigned how, int epoll)
{
    struct timespec long_time = { 20, 0 };
    struct timeval long_too = { 20, 0 };
    struct pollfd one = { .fd = fd, .events = POLLIN };
    struct epoll_event event;
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    switch (how % 5) {
    case 0: CHECK(poll(&one, 1, 20000) == 1 && one.revents & POLLIN); break;
    case 1: CHECK(ppoll(&one, 1, &long_time, NULL) == 1 && one.revents & POLLIN); break;
    case 2: CHECK(select(fd + 1, &set, NULL, NULL, &long_too) == 1 && FD_ISSET(fd, &set)); break;
    case 3: CHECK(pselect(fd + 1, &set, NULL, NULL, &long_time, NULL) == 1 && FD_ISSET(fd, &set)); break;
    case 4: CHECK(epoll_wait(epoll, &event, 1, 20000) == 1 && event.data.fd == fd); break;
    }
}

static void exchange(int kind, unsigned how, int epoll)
{
    char out[64], in[64] = { 0 };
    int length = snprintf(out, sizeof out, "kind %d way %u", kind, how);
    CHECK(write(near_out[kind], out, (size_t)length) == length);
    wait_for(near_in[kind], how, epoll);
    int waiting = 0;
    CHECK(kind == DATAGRAM || (ioctl(near_in[kind], FIONREAD, &waiting) == 0 && waiting == length));
    CHECK(read(near_in[kind], in, sizeof in) == length && memcmp(in, out, (size_t)length) == 0);
}

static void messages(void)
{
    int pair[2], file[2];
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0 && pipe(file) == 0);
    char room[CMSG_SPACE(sizeof(int))] = { 0 };
    struct iovec parts[2] = { { "two ", 4 }, { "parts", 5 } };
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2, .msg_control = room, .msg_controllen = sizeof room };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &file[1], sizeof(int));
    CHECK(sendmsg(pair[0], &message, 0) == 9);
    char text[32] = { 0 }, back[CMSG_SPACE(sizeof(int))];
    struct iovec whole = { text, sizeof text };
    struct msghdr got = { .msg_iov = &whole, .msg_iovlen = 1, .msg_control = back, .msg_controllen = sizeof back };
    CHECK(recvmsg(pair[1], &got, MSG_CMSG_CLOEXEC) == 9 && strcmp(text, "two parts") == 0);
    int passed;
    header = CMSG_FIRSTHDR(&got);
    CHECK(header && header->cmsg_type == SCM_RIGHTS);
    memcpy(&passed, CMSG_DATA(header), sizeof(int));
    CHECK(write(passed, "through", 7) == 7 && read(file[0], text, 7) == 7 && memcmp(text, "through", 7) == 0);
    struct ucred peer;
    socklen_t length = sizeof peer;
    CHECK(getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid == getpid());
    CHECK(send(pair[0], "x", 1, 0) == 1 && recv(pair[1], text, 1, MSG_PEEK) == 1);
    CHECK(recvfrom(pair[1], text, 1, MSG_DONTWAIT, NULL, NULL) == 1);
    CHECK(recv(pair[1], text, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    CHECK(shutdown(pair[0], SHUT_WR) == 0 && recv(pair[1], text, 1, 0) == 0);
    CHECK(close(passed) == 0 && close(pair[0]) == 0 && close(pair[1]) == 0);
    CHECK(close(file[0]) == 0 && close(file[1]) == 0);
}

static void events(void)
{
    uint64_t value = 5;
    int event = eventfd(3, EFD_NONBLOCK);
    CHECK(event >= 0 && write(event, &value, 8) == 8 && read(event, &value, 8) == 8 && value == 8);
    CHECK(read(event, &value, 8) == -1 && errno == EAGAIN && close(event) == 0);
    int timer = timerfd_create(CLOCK_MONOTONIC, 0);
    struct itimerspec times = { { 0, 10000000 }, { 0, 10000000 } };
    double start = seconds(CLOCK_MONOTONIC);
    CHECK(timer >= 0 && timerfd_settime(timer, 0, &times, NULL) == 0);
    uint64_t expired = 0;
    while (expired < 3) {
        wait_for(timer, (unsigned)expired % 4, -1);
        CHECK(read(timer, &value, 8) == 8 && value >= 1);
        expired += value;
    }
    CHECK(seconds(CLOCK_MONOTONIC) - start >= 0.029 && close(timer) == 0);
    struct pollfd closed = { .fd = timer, .events = POLLIN };
    CHECK(poll(&closed, 1, 0) == 1 && closed.revents == POLLNVAL);
}

int main(void)
{
    pthread_t thread;
    set_up();
    CHECK(pthread_create(&thread, NULL, echo, NULL) == 0);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    CHECK(epoll >= 0);
    for (int i = 0; i < KINDS; i++) {
        struct epoll_event event = { .events = EPOLLIN, .data.fd = near_in[i] };
        CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, near_in[i], &event) == 0);
    }
    ready();
    int rounds = 0;
    do {
        for (int kind = 0; kind < KINDS; kind++)
            for (unsigned how = 0; how < 5; how++)
                exchange(kind, how, epoll);
        messages();
        events();
        rounds++;
    } while (rounds < 2 || !asked_to_finish(0));
    for (int i = 0; i < KINDS; i++)
        CHECK(write(near_out[i], ".", 1) == 1);
    CHECK(pthread_join(thread, NULL) == 0);
    puts("pipes: every byte came back, every wait ended in time");
    return 0;
}
