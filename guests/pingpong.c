/* The least that two nodes need for a question and its answer: 100 bytes there and 100 bytes back over TCP.
 *
 * "pingpong serve PORT" answers one connection until it ends. "pingpong ask ADDRESS PORT" asks, and prints the median
 * of the round trips in microseconds. */
#include "guest.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

enum { BYTES = 100, TIMES = 5000 };

static double times[TIMES];

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    char bytes[BYTES] = { 0 };
    int one = 1, on = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = { .sin_family = AF_INET };
    CHECK(on >= 0 && argc >= 3);
    if (strcmp(argv[1], "serve") == 0) {
        at.sin_port = htons((uint16_t)atoi(argv[2]));
        CHECK(setsockopt(on, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0);
        CHECK(bind(on, (struct sockaddr *)&at, sizeof at) == 0 && listen(on, 1) == 0);
        ready();
        int with = accept(on, NULL, NULL);
        CHECK(with >= 0 && setsockopt(with, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0);
        while (recv(with, bytes, BYTES, MSG_WAITALL) == BYTES)
            CHECK(send(with, bytes, BYTES, 0) == BYTES);
        return 0;
    }
    CHECK(argc == 4 && inet_pton(AF_INET, argv[2], &at.sin_addr) == 1);
    at.sin_port = htons((uint16_t)atoi(argv[3]));
    CHECK(connect(on, (struct sockaddr *)&at, sizeof at) == 0);
    CHECK(setsockopt(on, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0);
    for (int i = 0; i < TIMES; i++) {
        double start = seconds(CLOCK_MONOTONIC);
        CHECK(send(on, bytes, BYTES, 0) == BYTES && recv(on, bytes, BYTES, MSG_WAITALL) == BYTES);
        times[i] = seconds(CLOCK_MONOTONIC) - start;
    }
    qsort(times, TIMES, sizeof *times, compare);
    printf("pingpong %.3f\n", times[TIMES / 2] * 1e6);
    return 0;
}
