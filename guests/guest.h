/* What every guest does: set up, say "ready", work in rounds while it is moved about, verify itself, say what it found.
 *
 * It is told to end by a line "finish" on its standard input, or by the end of that input; other lines ("step") are
 * remarks of the harness. A guest prints nothing that differs from run to run, and leaves no process behind. */
#ifndef GUEST_H
#define GUEST_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Ends the guest with the place and the reason when something is not as it should be. */
#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            int error_ = errno; \
            printf("%s:%d: not so: %s (errno %d, %s)\n", __FILE__, __LINE__, #condition, error_, strerror(error_)); \
            fflush(stdout); \
            _exit(1); \
        } \
    } while (0)

static inline void ready(void)
{
    puts("ready");
    fflush(stdout);
}

/* Whether "finish" or the end of input has come; waits at most this long for it. */
static inline int asked_to_finish(int wait_ms)
{
    static char line[64];
    static size_t length;
    struct pollfd input = { .fd = 0, .events = POLLIN };
    int finish = 0;
    while (poll(&input, 1, finish ? 0 : wait_ms) > 0) {
        char byte;
        if (read(0, &byte, 1) <= 0)
            return 1;
        if (byte == '\n') {
            finish |= length == 6 && memcmp(line, "finish", 6) == 0;
            length = 0;
            if (finish)
                return 1;
        } else if (length < sizeof line) {
            line[length++] = byte;
        }
        wait_ms = 0;
    }
    return 0;
}

static inline double seconds(clockid_t clock)
{
    struct timespec now;
    CHECK(clock_gettime(clock, &now) == 0);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static inline void sleep_ms(long ms)
{
    struct timespec left = { ms / 1000, ms % 1000 * 1000000 };
    while (nanosleep(&left, &left) != 0)
        CHECK(errno == EINTR);
}

/* A small generator, so that every run sees the same numbers (xorshift). */
static inline uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}
#endif
