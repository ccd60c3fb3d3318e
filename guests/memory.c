/* Memory of every kind, compared with itself after each round.
 *
 * usage: memory [MEGABYTES of heap, 32 unless told] */
#include "guest.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

static sigjmp_buf escape;

static void on_fault(int number)
{
    (void)number;
    siglongjmp(escape, 1);
}

static int writable(volatile char *where)
{
    if (sigsetjmp(escape, 1) != 0)
        return 0;
    *where = *where;
    return 1;
}

static uint64_t sum(const void *memory, size_t size)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < size / 8; i++)
        hash = (hash ^ ((const uint64_t *)memory)[i]) * 0x100000001b3;
    return hash;
}

static void fill(void *memory, size_t size, uint64_t *random)
{
    for (size_t i = 0; i < size / 8; i++)
        ((uint64_t *)memory)[i] = next_random(random);
}

/* Ends up far below where the stack was when the program was moved. */
static uint64_t deep(int depth)
{
    volatile char room[4000];
    memset((char *)room, depth & 0xff, sizeof room);
    uint64_t below = depth ? deep(depth - 1) : 0;
    for (size_t i = 0; i < sizeof room; i++)
        CHECK(room[i] == (char)(depth & 0xff));
    return below + 1;
}

static void *map(size_t size, int protection)
{
    void *memory = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

static void maps(uint64_t *random)
{
    size_t page = 4096, size = 64 * page;
    char *area = map(size, PROT_READ | PROT_WRITE);
    fill(area, size, random);
    uint64_t before = sum(area, size);
    CHECK(mprotect(area, size, PROT_READ) == 0 && !writable(area + 5 * page) && sum(area, size) == before);
    CHECK(mprotect(area + 8 * page, page, PROT_NONE) == 0 && !writable(area + 8 * page));
    CHECK(mprotect(area, size, PROT_READ | PROT_WRITE) == 0 && writable(area + 8 * page) && sum(area, size) == before);
    area = mremap(area, size, 4 * size, MREMAP_MAYMOVE);
    CHECK(area != MAP_FAILED && sum(area, size) == before && area[3 * size] == 0);
    CHECK(madvise(area + size, size, MADV_DONTNEED) == 0 && area[size] == 0);
    CHECK(munmap(area + page, page) == 0 && !writable(area + page));
    unsigned char resident[4];
    CHECK(mincore(area + 2 * page, 4 * page, resident) == 0 && (resident[0] & 1));
    CHECK(munmap(area, 4 * size) == 0);
    CHECK(mmap(area, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == area);
    CHECK(munmap(area, page) == 0);

    char *end = sbrk(0);
    CHECK(sbrk(1 << 20) == end && sbrk(0) == end + (1 << 20));
    memset(end, 0x5a, 1 << 20);
    CHECK(end[12345] == 0x5a && sbrk(-(1 << 20)) == end + (1 << 20) && sbrk(0) == end);
}

int main(int argc, char **argv)
{
    size_t page = 4096, heap_size = (size_t)(argc > 1 ? atoi(argv[1]) : 32) << 20;
    uint64_t random = 2718;
    /* Faults are handled on a stack of their own: one of them is about the stack. */
    stack_t stack = { .ss_sp = map(65536, PROT_READ | PROT_WRITE), .ss_size = 65536 };
    struct sigaction action = { .sa_handler = on_fault, .sa_flags = SA_ONSTACK };
    CHECK(sigaltstack(&stack, NULL) == 0 && sigaction(SIGSEGV, &action, NULL) == 0);
    char *heap = malloc(heap_size), *guarded = map(3 * page, PROT_READ | PROT_WRITE), *read_only = map(page, PROT_READ | PROT_WRITE);
    char *sparse = map(1 << 30, PROT_READ | PROT_WRITE), *wiped = map(page, PROT_READ | PROT_WRITE);
    CHECK(heap);
    fill(heap, heap_size, &random);
    fill(read_only, page, &random);
    for (size_t i = 0; i < 64; i++)
        sparse[i << 24] = (char)(i + 1);
    CHECK(mprotect(guarded + page, page, PROT_NONE) == 0 && mprotect(read_only, page, PROT_READ) == 0);
    CHECK(madvise(wiped, page, MADV_WIPEONFORK) == 0);
    uint64_t heap_sum = sum(heap, heap_size), read_sum = sum(read_only, page);
    ready();
    int rounds = 0;
    do {
        CHECK(sum(heap, heap_size) == heap_sum && sum(read_only, page) == read_sum);
        CHECK(!writable(read_only) && !writable(guarded + page) && writable(guarded) && writable(guarded + 2 * page));
        for (size_t i = 0; i < 64; i++)
            CHECK(sparse[i << 24] == (char)(i + 1) && sparse[(i << 24) + 8192] == 0);
        CHECK(deep(200 + rounds % 100) == 201 + (uint64_t)(rounds % 100));
        maps(&random);
        /* Some of the heap changes in every round, so that copies made ahead grow stale. */
        fill(heap + (size_t)(rounds % 8) * (heap_size / 8), heap_size / 8, &random);
        heap_sum = sum(heap, heap_size);
        rounds++;
    } while (rounds < 3 || !asked_to_finish(1));
    puts("memory: every byte is what and where it was");
    return 0;
}
