/* Makes system calls with arguments drawn by chance, and tells what came of each.
 *
 * It is told the rows of the table, one by one: "row NUMBER NAME SEED CALLS own|same ARGUMENT...", where an argument is
 * the kind that the table names, with its numbers behind colons. A row is worked on by a child in a directory of its own,
 * with all signals blocked and descriptors that never wait. A line tells the arguments, the result, and a sum of all
 * memory that pointers lead to. Where a row is its "own", its answer differs each time: its outputs are left out. */
#include "guest.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>

enum { ARGS = 6, SLOTS = 8, SLOT_BYTES = 8192, PAGE = 4096, INNER = 6, FD_FIRST = 10, FD_ZERO = 20, FD_CLOSED = 30 };
#define ARENA ((char *)0x200000000000)
#define SLOT(n) (ARENA + (size_t)(n) * 0x10000)
#define READ_ONLY SLOT(SLOTS)
#define NO_CALL (-1)

struct argument {
    char kind[16];
    uint64_t number[3];
};

static struct argument arguments[ARGS];
static int argument_count;
static uint64_t value[ARGS], chance;
static size_t size_of[ARGS];
static char text[1 << 17];
static size_t text_length;

static uint64_t draw(uint64_t below) { return (next_random(&chance) >> 11) % below; }
#define ONE_OF(table) ((table)[draw(sizeof(table) / sizeof *(table))])
static int is(int at, const char *kind) { return strcmp(arguments[at].kind, kind) == 0; }

static uint64_t any_value(void)
{
    static const uint64_t usual[] = { 0, 0, 0, 1, 1, 2, 3, 4, 5, 8, 16, 64, 100, 0x80, 0x100, 0x400, 0x800, 4096 };
    static const uint64_t edge[] = { -1ul, 0xffffffff, 0x7fffffff, 0x80000000, 0x100000001, 1ul << 63, 1ul << 62, 65536 };
    return draw(4) ? ONE_OF(usual) : draw(4) ? ONE_OF(edge) : next_random(&chance);
}

static uint64_t any_length(void)
{
    static const uint64_t usual[] = { 0, 1, 2, 3, 7, 8, 16, 24, 100, 1000, 4095, 4096, 4097, 8192 };
    static const uint64_t edge[] = { 8193, 65536, 1 << 20, 0x7fffffff, 0x80000000, -1ul, 1ul << 63 };
    return draw(8) ? ONE_OF(usual) : ONE_OF(edge);
}

static uint64_t any_fd(void)
{
    static const uint64_t wrong[] = { FD_CLOSED, -1ul, 9999, -100ul, 0x7fffffff, 1ul << 32 | FD_FIRST };
    return draw(6) ? FD_FIRST + draw(14) : ONE_OF(wrong);
}

/* Whether an argument says how long to wait; such memory is shared with no other. */
static int is_timeout(int at) { return is(at, "timeval") || is(at, "timespec"); }

/* A pointer to so many bytes, good or bad, in the memory of this argument or, rarely, of another one. */
static uint64_t any_pointer(int at, size_t bytes)
{
    char *slot = SLOT(at);
    size_t inside = bytes > SLOT_BYTES ? SLOT_BYTES : bytes;
    int lonely = at < ARGS && at < argument_count && is_timeout(at);
    switch (draw(16)) {
    case 0: return lonely ? 1 : 0;
    case 1: return (uint64_t)(slot + SLOT_BYTES);
    case 2: return (uint64_t)(at < argument_count && is(at, "made") ? slot : READ_ONLY);
    case 3: case 4: return (uint64_t)(slot + SLOT_BYTES - inside);
    case 5: return (uint64_t)(slot + SLOT_BYTES - (inside + 1) / 2);
    case 6: {
        static const uint64_t wild[] = { 1, -1ul, 0x7ffffffff000, 1ul << 63, 0xffff800000000000, 0x7fffffffefff };
        return ONE_OF(wild);
    }
    case 7: {
        int other = (int)draw(ARGS);
        if (!lonely && !(other < argument_count && is_timeout(other)))
            return (uint64_t)(SLOT(other) + 8 * draw(4));
    } /* fall through */
    default: return (uint64_t)(slot + (draw(2) ? 0 : 8 * draw(8)));
    }
}

static int is_ours(uint64_t address, size_t bytes)
{
    for (int slot = 0; slot < SLOTS; slot++)
        if (address - (uint64_t)SLOT(slot) <= SLOT_BYTES && bytes <= (uint64_t)SLOT(slot) + SLOT_BYTES - address)
            return 1;
    return 0;
}

static void put(uint64_t address, const void *bytes, size_t length)
{
    if (is_ours(address, length))
        memcpy((void *)address, bytes, length);
}

static void put_word(uint64_t address, uint64_t word) { put(address, &word, 8); }
static void put_half(uint64_t address, uint32_t word) { put(address, &word, 4); }

static void any_path(int at)
{
    static char longest[5000];
    static const char *const names[] = { "file", "file", "missing", "d", "d/file", "link", "loop", "", ".", "file/x", "new",
                                         "user.x", "d/../file", "./d/", NULL, NULL };
    const char *name = ONE_OF(names);
    if (name == NULL) {
        static const size_t lengths[] = { 255, 256, 4094, 4095, 4096, 4999 };
        size_t length = ONE_OF(lengths);
        memset(longest, 'n', length);
        longest[length] = 0;
        name = longest;
    }
    size_of[at] = strlen(name) + 1;
    value[at] = any_pointer(at, size_of[at]);
    put(value[at], name, size_of[at]);
}

static void any_vector(uint64_t address, uint64_t count)
{
    for (uint64_t index = 0; index < count && index < 8; index++) {
        int slot = INNER + (int)draw(2);
        uint64_t length = any_length();
        put_word(address + 16 * index, any_pointer(slot, length));
        put_word(address + 16 * index + 8, draw(4) ? draw(200) : length);
    }
}

static void any_message(uint64_t address)
{
    uint64_t name_bytes = draw(3) * 8, vector = (uint64_t)SLOT(INNER) + 4096, control_bytes = draw(3) * 16;
    put_word(address, name_bytes ? any_pointer(INNER, name_bytes) : 0);
    put_word(address + 8, name_bytes);
    put_word(address + 16, draw(8) ? vector : any_pointer(INNER, 16));
    put_word(address + 24, draw(8) ? draw(4) : any_length());
    put_word(address + 32, control_bytes ? any_pointer(INNER + 1, control_bytes) : 0);
    put_word(address + 40, control_bytes);
    put_word(address + 48, 0);
    any_vector(vector, 3);
}

/* How many bytes a pointer of this kind leads to, as far as its numbers tell. */
static size_t bytes_behind(int at)
{
    const uint64_t *number = arguments[at].number;
    if (is(at, "payload"))
        return value[number[0]];
    if (is(at, "array"))
        return value[number[0]] * number[1] + number[2];
    if (is(at, "vector"))
        return value[number[0]] * 16;
    if (is(at, "messages"))
        return value[number[0]] * 64;
    if (is(at, "length"))
        return 4;
    return number[0];
}

static int is_plain(int at)
{
    return is(at, "value") || is(at, "fd") || is(at, "steady") || is(at, "offset") || is(at, "ms") || is(at, "is") || is(at, "with");
}

static void draw_plain(int at, int counts)
{
    static const uint64_t waits[] = { 0, 0, 1, 2 };
    const uint64_t *number = arguments[at].number;
    if (is(at, "fd"))
        value[at] = any_fd();
    else if (is(at, "steady")) {
        do
            value[at] = any_fd();
        while ((uint32_t)value[at] == FD_ZERO);
    } else if (is(at, "ms"))
        value[at] = ONE_OF(waits);
    else if (is(at, "is"))
        value[at] = number[0];
    else if (is(at, "with"))
        value[at] = any_value() | number[0];
    else
        value[at] = counts ? any_length() : any_value();
}

static void draw_pointer(int at)
{
    if (is(at, "path")) {
        any_path(at);
        return;
    }
    size_of[at] = bytes_behind(at);
    value[at] = any_pointer(at, size_of[at]);
    if (is(at, "vector"))
        any_vector(value[at], value[arguments[at].number[0]]);
    else if (is(at, "message"))
        any_message(value[at]);
    else if (is(at, "messages"))
        for (uint64_t index = 0; index < value[arguments[at].number[0]] && index < 4; index++)
            any_message(value[at] + 64 * index);
    else if (is(at, "length"))
        put_half(value[at], (uint32_t)any_length());
    else if (is(at, "sized"))
        put_half(value[at], draw(2) ? (uint32_t)size_of[at] : (uint32_t)any_length());
    else if (is(at, "handle"))
        put_half(value[at], (uint32_t)draw(200));
    else if (is(at, "event")) {
        put_half(value[at] + 8, 34);
        put_half(value[at] + 12, (uint32_t)draw(2));
    }
}

/* Random bytes, small numbers, or nothing. */
static void fill(void)
{
    for (int slot = 0; slot < SLOTS; slot++) {
        uint64_t way = draw(3);
        for (uint64_t *word = (uint64_t *)SLOT(slot), *end = word + SLOT_BYTES / 8; word < end; word++) {
            uint64_t next = next_random(&chance);
            *word = way == 0 ? next : way == 1 ? next & 0x0000000700000007 : 0;
        }
    }
}

static void draw_all(void)
{
    int counts[ARGS] = { 0 };
    fill();
    for (int at = 0; at < argument_count; at++)
        if (is(at, "payload") || is(at, "array") || is(at, "vector") || is(at, "messages"))
            counts[arguments[at].number[0]] = 1;
    memset(value, 0, sizeof value);
    for (int at = 0; at < argument_count; at++)
        if (is_plain(at))
            draw_plain(at, counts[at]);
    for (int at = 0; at < argument_count; at++)
        if (!is_plain(at) && !is_timeout(at))
            draw_pointer(at);
    for (int at = 0; at < argument_count; at++) {
        if (!is_timeout(at))
            continue;
        static const uint64_t waits[] = { 0, 1, 100, 1000000, 2000000000, -1ul }, none[] = { 0, 0, 0, 2000000000, -1ul };
        uint64_t part = arguments[at].number[1] ? ONE_OF(none) : ONE_OF(waits);
        draw_pointer(at);
        put_word(value[at], 0);
        put_word(value[at] + 8, is(at, "timeval") ? 0 : part);
    }
}

static uint64_t sum(void)
{
    uint64_t sum = 0xcbf29ce484222325;
    for (int slot = 0; slot < SLOTS; slot++)
        for (const unsigned char *byte = (void *)SLOT(slot), *end = byte + SLOT_BYTES; byte < end; byte++)
            sum = (sum ^ *byte) * 0x100000001b3;
    return sum;
}

/* What a call of its own kind may have written is the same afterwards. */
static void forget(void)
{
    for (int at = 0; at < argument_count; at++)
        if (!is_plain(at))
            for (size_t byte = 0; byte < size_of[at] && is_ours(value[at] + byte, 1); byte++)
                ((char *)value[at])[byte] = 0;
}

/* Descriptors from FD_FIRST on, none of which ever waits. */
static void open_all(void)
{
    int ends[2], next = FD_FIRST;
    char data[5000];
    for (size_t at = 0; at < sizeof data; at++)
        data[at] = (char)(at * 7 + at / 256);
#define KEEP(made) do { int made_ = (made); CHECK(made_ >= 0 && dup2(made_, next) == next && close(made_) == 0); next++; } while (0)
    int file = open("file", O_RDWR | O_CREAT, 0644);
    CHECK(file >= 0 && write(file, data, sizeof data) == sizeof data && lseek(file, 100, SEEK_SET) == 100);
    KEEP(file);
    KEEP(open("file", O_RDONLY));
    CHECK(mkdir("d", 0755) == 0 && symlink("file", "link") == 0 && symlink("loop", "loop") == 0);
    KEEP(open("d", O_RDONLY | O_DIRECTORY));
    CHECK(pipe2(ends, O_NONBLOCK) == 0 && write(ends[1], data, 300) == 300);
    KEEP(ends[0]);
    KEEP(ends[1]);
    for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
        CHECK(socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, ends) == 0 && write(ends[1], data, 200) == 200);
        KEEP(ends[0]);
        KEEP(ends[1]);
    }
    KEEP(open("/dev/null", O_RDWR));
    CHECK(next == FD_ZERO);
    KEEP(open("/dev/zero", O_RDWR));
    KEEP(eventfd(3, EFD_NONBLOCK));
    KEEP(epoll_create1(0));
    KEEP(memfd_create("memory", 0));
    CHECK(next == FD_FIRST + 14);
}

static void say(const char *format, uint64_t number)
{
    text_length += (size_t)snprintf(text + text_length, sizeof text - text_length, format, number);
    CHECK(text_length < sizeof text);
}

static _Noreturn void work(long number, const char *name, uint64_t calls, int own)
{
    sigset_t all;
    struct rlimit little = { 1 << 20, 1 << 20 };
    sigfillset(&all);
    CHECK(sigprocmask(SIG_BLOCK, &all, NULL) == 0 && setrlimit(RLIMIT_FSIZE, &little) == 0);
    CHECK(mkdir(name, 0755) == 0 && chdir(name) == 0);
    open_all();
    for (uint64_t call = 0; call < calls; call++) {
        draw_all();
        text_length += (size_t)snprintf(text + text_length, sizeof text - text_length, "%s#%d(", name, (int)call);
        for (int at = 0; at < argument_count; at++)
            say(at ? ", %#lx" : "%#lx", value[at]);
        long result = syscall(number, value[0], value[1], value[2], value[3], value[4], value[5]);
        if (result == NO_CALL)
            result = -errno;
        if (own) {
            forget();
            result = result > 0 ? 0 : result;
        }
        say(") = %ld ", (uint64_t)result);
        say("%016lx\n", sum());
    }
    for (size_t done = 0; done < text_length;) {
        ssize_t now = write(1, text + done, text_length - done);
        if (now <= 0)
            _exit(2);
        done += (size_t)now;
    }
    _exit(0);
}

static void row(char *line)
{
    char *word = strtok(line, " "), *name = strtok(NULL, " ");
    long number = atol(word);
    chance = strtoull(strtok(NULL, " "), NULL, 10) * 0x9e3779b97f4a7c15 + (uint64_t)number + 1;
    uint64_t calls = strtoull(strtok(NULL, " "), NULL, 10);
    int own = strcmp(strtok(NULL, " "), "own") == 0, status;
    memset(arguments, 0, sizeof arguments);
    for (argument_count = 0; (word = strtok(NULL, " ")) != NULL; argument_count++) {
        struct argument *argument = &arguments[argument_count];
        CHECK(argument_count < ARGS
              && sscanf(word, "%15[^:]:%lu:%lu:%lu", argument->kind, &argument->number[0], &argument->number[1],
                        &argument->number[2]) >= 1);
    }
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        work(number, name, calls, own);
    CHECK(waitpid(child, &status, 0) == child);
    printf("done %s %#x\n", name, (unsigned)status);
    fflush(stdout);
}

int main(int count, char **words)
{
    static char line[1024];
    CHECK(count == 2 && chdir(words[1]) == 0);
    umask(022);
    for (int slot = 0; slot <= SLOTS; slot++) {
        int access = slot == SLOTS ? PROT_READ : PROT_READ | PROT_WRITE;
        CHECK(mmap(SLOT(slot), SLOT_BYTES, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == SLOT(slot));
    }
    ready();
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = 0;
        if (strcmp(line, "finish") == 0)
            break;
        if (strncmp(line, "row ", 4) == 0)
            row(line + 4);
    }
    return 0;
}
