/* Shared memory of no file that it alone has, in every shape that calls can give it.
 *
 * usage: sharedmem [rest]
 *
 * It works in rounds; with "rest" it only waits. At a line "fork" it makes a child that changes some of the memory and
 * ends, and says "changed" when it has seen that; at "work" it says "worked" after another round. */
#include "guest.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { PAGE = 4096, PAGES = 64, SHOWN = 48 };
enum { WHOLE, TRIMMED, APART, TWICE, BEYOND, OBJECTS };

/* What fills each page that was ever written; 0 for the others. In memory of its own. */
static uint64_t fills[OBJECTS][PAGES];
static char *start[OBJECTS];
/* Where the second half is, and of TWICE the first half once more. */
static char *second[OBJECTS];
static sigjmp_buf escape;

static void on_fault(int number)
{
    siglongjmp(escape, number);
}

/* The signal that a touch ends with, 0 if with none. */
static int touch(volatile char *where, int to_write)
{
    int number = sigsetjmp(escape, 1);
    if (number == 0) {
        if (to_write)
            *where = *where;
        else
            (void)*where;
    }
    return number;
}

static char *shared(size_t pages)
{
    char *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

/* Where a page of an object is to be seen. */
static uint64_t *place(int object, int page)
{
    if (object == APART && page >= PAGES / 2)
        return (uint64_t *)(second[APART] + (size_t)(page - PAGES / 2) * PAGE);
    return (uint64_t *)(start[object] + (size_t)page * PAGE);
}

static void fill(int object, int page, uint64_t with)
{
    uint64_t *words = place(object, page);
    for (int i = 0; i < PAGE / 8; i++)
        words[i] = with + (uint64_t)i;
    fills[object][page] = with;
}

static void compare(const uint64_t *words, uint64_t with)
{
    for (int i = 0; i < PAGE / 8; i++)
        CHECK(words[i] == (with ? with + (uint64_t)i : 0));
}

static int is_resident(int object, int page)
{
    unsigned char resident;
    CHECK(mincore(place(object, page), PAGE, &resident) == 0);
    return resident & 1;
}

/* A child changes pages and ends: its parent sees it, whether it has ever touched them or not. */
static void change_by_child(int object, int from, int to, uint64_t with)
{
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        for (int page = from; page < to; page++)
            fill(object, page, with + (uint64_t)page);
        _exit(7);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    for (int page = from; page < to; page++)
        fills[object][page] = with + (uint64_t)page;
}

static void set_up(void)
{
    for (int object = 0; object < OBJECTS; object++) {
        start[object] = shared(PAGES);
        second[object] = start[object] + PAGES / 2 * PAGE;
        for (int page = 0; page < SHOWN; page += 3)
            fill(object, page, 1000003u * (uint64_t)(object * PAGES + page + 1));
    }
    change_by_child(WHOLE, 20, 28, 77777);
    /* Pages 8 to 15 can only be read, 16 and 17 not even that. */
    CHECK(mprotect(start[WHOLE] + 8 * PAGE, 8 * PAGE, PROT_READ) == 0);
    CHECK(mprotect(start[WHOLE] + 16 * PAGE, 2 * PAGE, PROT_NONE) == 0);
    /* Of this one the beginning and the end are not to be seen any more; they are there. */
    fill(TRIMMED, PAGES - 1, 4242);
    CHECK(munmap(start[TRIMMED], 4 * PAGE) == 0);
    CHECK(munmap(start[TRIMMED] + SHOWN * PAGE, (PAGES - SHOWN) * PAGE) == 0);
    size_t half = PAGES / 2 * PAGE;
    second[APART] = mremap(start[APART] + half, half, half, MREMAP_MAYMOVE | MREMAP_FIXED, shared(PAGES / 2));
    CHECK(second[APART] != MAP_FAILED);
    second[TWICE] = mremap(start[TWICE], 0, half, MREMAP_MAYMOVE);
    CHECK(second[TWICE] != MAP_FAILED);
    start[BEYOND] = mremap(start[BEYOND], PAGES * PAGE, 2 * PAGES * PAGE, MREMAP_MAYMOVE);
    CHECK(start[BEYOND] != MAP_FAILED);
}

static void check(void)
{
    for (int object = 0; object < OBJECTS; object++)
        for (int page = object == TRIMMED ? 4 : 0; page < SHOWN; page++) {
            if (object == WHOLE && (page == 16 || page == 17))
                continue;
            /* To look at a page that nobody has written would make one. */
            if (fills[object][page])
                compare(place(object, page), fills[object][page]);
            CHECK(is_resident(object, page) == (fills[object][page] != 0));
        }
    CHECK(touch(start[WHOLE] + 9 * PAGE, 1) == SIGSEGV && touch(start[WHOLE] + 9 * PAGE, 0) == 0);
    CHECK(touch(start[WHOLE] + 16 * PAGE, 0) == SIGSEGV);
    CHECK(touch(start[BEYOND] + PAGES * PAGE, 0) == SIGBUS);
    for (int page = 0; page < PAGES / 2; page++)
        if (fills[TWICE][page])
            compare((uint64_t *)(second[TWICE] + page * PAGE), fills[TWICE][page]);
}

/* One more page of each object is written, and everything is looked at. */
static void work(int number)
{
    /* Made and kept while it is moved about; the one of the last round goes. */
    static uint64_t *fresh;
    static uint64_t fresh_fill;
    uint64_t with = 31337 + 1000u * (uint64_t)number;
    if (fresh) {
        compare(fresh, fresh_fill);
        CHECK(fresh[PAGE / 8] == 0 && munmap(fresh, 2 * PAGE) == 0);
    }
    fresh = (uint64_t *)shared(2);
    fresh_fill = with;
    for (int i = 0; i < PAGE / 8; i++)
        fresh[i] = with + (uint64_t)i;
    int page = 18 + number * 7 % (SHOWN - 18);
    for (int object = 0; object < OBJECTS; object++)
        fill(object, page, with + 100u * (uint64_t)object);
    /* A name, where the kernel gives names, changes nothing but how the memory is listed. */
    prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, start[TWICE], PAGES * PAGE, number % 2 ? "a name" : "another");
    /* What is written here is seen there. */
    uint64_t *here = place(TWICE, 5), *there = (uint64_t *)(second[TWICE] + 5 * PAGE);
    for (int i = 0; i < PAGE / 8; i++)
        there[i] = with + (uint64_t)i;
    CHECK(here[7] == with + 7);
    fills[TWICE][5] = with;
    check();
    /* A hole is punched into it, and what comes there next is zero. */
    CHECK(madvise(place(WHOLE, 46), PAGE, MADV_REMOVE) == 0 && !is_resident(WHOLE, 46));
    fill(WHOLE, 46, with);
    CHECK(msync(start[WHOLE], 8 * PAGE, MS_SYNC) == 0);
}

/* What could not be seen all the time is where it was. */
static void uncover(void)
{
    CHECK(mprotect(start[WHOLE], PAGES * PAGE, PROT_READ | PROT_WRITE) == 0);
    for (int page = 0; page < PAGES; page++)
        compare(place(WHOLE, page), fills[WHOLE][page]);
    char *grown = mremap(start[TRIMMED] + 4 * PAGE, (SHOWN - 4) * PAGE, (PAGES - 4) * PAGE, MREMAP_MAYMOVE);
    CHECK(grown != MAP_FAILED);
    compare((uint64_t *)(grown + (PAGES - 5) * PAGE), 4242);
    compare((uint64_t *)(grown + (PAGES - 6) * PAGE), 0);
}

/* The next order: 'w'ork, 'f'ork, 'e'nd, 's'omething else, or 0 if none came in time. */
static int order(int wait_ms)
{
    static char line[64];
    size_t length = 0;
    struct pollfd input = { .fd = 0, .events = POLLIN };
    if (poll(&input, 1, wait_ms) <= 0)
        return 0;
    char byte;
    while (read(0, &byte, 1) == 1 && byte != '\n')
        if (length < sizeof line - 1)
            line[length++] = byte;
    line[length] = 0;
    if (strcmp(line, "fork") == 0 || strcmp(line, "work") == 0)
        return line[0];
    return length == 0 || strcmp(line, "finish") == 0 ? 'e' : 's';
}

int main(int argc, char **argv)
{
    int rests = argc > 1 && strcmp(argv[1], "rest") == 0;
    struct sigaction action = { .sa_handler = on_fault };
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0 && sigaction(SIGBUS, &action, NULL) == 0);
    set_up();
    check();
    ready();
    int number = 0, told = 0;
    do {
        if (!rests || told == 'f' || told == 'w')
            work(number++);
        if (told == 'w') {
            puts("worked");
            fflush(stdout);
        }
        if (told == 'f') {
            change_by_child(WHOLE, 40, 45, 555u * (uint64_t)number);
            check();
            puts("changed");
            fflush(stdout);
        }
        told = order(rests ? -1 : 2);
    } while (told != 'e' || (!rests && number < 3 && (work(number++), 1)));
    check();
    uncover();
    puts("sharedmem: every page is what and where it was");
    return 0;
}
