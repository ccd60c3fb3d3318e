/* A file of its own that it maps and writes to, as databases and Java's runtime do.
 *
 * usage: ownfile DIRECTORY [rest|open|twice]
 *        ownfile check FILE ROUNDS
 *
 * It works in rounds on DIRECTORY/own; with "rest" it does what it is told by lines: "work" (a round in memory), "sync",
 * "try" (a sync that may fail), "unmap" (the second view of it), "read" (by its descriptor), "truncate", "pass" (starts a program). "open" also leaves
 * its descriptor open, which is closed otherwise; "twice" maps the file privately, too. "check" looks at what a file has
 * after so many rounds. */
#include "guest.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { PAGE = 4096, PAGES = 700, TAIL = 100, VIEW = 16, LENGTH = PAGES * PAGE + TAIL };

static char path[4096];
static char *map, *view;
static int fd = -1;
static int rounds;

/* What each page begins with after so many rounds: the last round that wrote it. */
static void expect(int until, uint64_t begins[PAGES + 1])
{
    memset(begins, 0, sizeof(uint64_t) * (PAGES + 1));
    for (int round = 1; round <= until; round++)
        for (int k = 0; k < 9; k++)
            begins[(round * 31 + k * 83) % (PAGES + 1)] = (uint64_t)round * 1000003u;
}

static size_t words_of(int page)
{
    return (page == PAGES ? TAIL : PAGE) / 8;
}

static void compare(const char *bytes, int page, uint64_t with)
{
    const uint64_t *words = (const uint64_t *)(bytes + (size_t)page * PAGE);
    for (size_t i = 0; i < words_of(page); i++)
        CHECK(words[i] == (with ? with + i : 0));
}

static void work(void)
{
    rounds++;
    for (int k = 0; k < 9; k++) {
        int page = (rounds * 31 + k * 83) % (PAGES + 1);
        uint64_t *words = (uint64_t *)(map + (size_t)page * PAGE);
        for (size_t i = 0; i < words_of(page); i++)
            words[i] = (uint64_t)rounds * 1000003u + i;
    }
    uint64_t begins[PAGES + 1];
    expect(rounds, begins);
    for (int page = 0; page <= PAGES; page++)
        compare(map, page, begins[page]);
    for (int page = 0; view && page < VIEW; page++)
        compare(view - (size_t)8 * PAGE, page + 8, begins[page + 8]);
}

static void check_file(const char *file, int until)
{
    uint64_t begins[PAGES + 1];
    expect(until, begins);
    static char bytes[LENGTH];
    int in = open(file, O_RDONLY);
    CHECK(in >= 0);
    struct stat data;
    CHECK(fstat(in, &data) == 0 && data.st_size == LENGTH);
    CHECK(pread(in, bytes, LENGTH, 0) == LENGTH);
    for (int page = 0; page <= PAGES; page++)
        compare(bytes, page, begins[page]);
    close(in);
}

static void set_up(const char *directory, int stays_open)
{
    snprintf(path, sizeof path, "%s/own", directory);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, LENGTH) == 0);
    map = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    view = mmap(NULL, VIEW * PAGE, PROT_READ, MAP_SHARED, fd, 8 * PAGE);
    CHECK(map != MAP_FAILED && view != MAP_FAILED);
    if (!stays_open) {
        close(fd);
        fd = -1;
    }
}

static void sync_all(void)
{
    CHECK(msync(map, LENGTH, MS_SYNC) == 0);
    CHECK(msync(map + 1, PAGE, MS_SYNC) < 0 && errno == EINVAL);
    CHECK(msync((char *)PAGE, PAGE, MS_SYNC) < 0 && errno == ENOMEM);
}

/* A round of everything; what needs the file itself, seldom. */
static void round_of_all(void)
{
    work();
    if (rounds % 3 == 0)
        sync_all();
    if (rounds % 7 == 0) {
        CHECK(mprotect(map + 20 * PAGE, PAGE, PROT_READ) == 0);
        CHECK(mprotect(map + 20 * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
    }
    if (rounds % 11 == 5) {
        CHECK(munmap(view, VIEW * PAGE) == 0);
        view = NULL;
        check_file(path, rounds);
    }
    if (rounds % 11 == 8) {
        int again = open(path, O_RDWR | O_CLOEXEC);
        view = mmap(NULL, VIEW * PAGE, PROT_READ, MAP_SHARED, again, 8 * PAGE);
        CHECK(again >= 0 && view != MAP_FAILED && close(again) == 0);
    }
    if (rounds % 13 == 0) {
        char *where = mremap(map, LENGTH, LENGTH, MREMAP_MAYMOVE);
        CHECK(where != MAP_FAILED);
        map = where;
    }
}

static void say(const char *what)
{
    printf("%s %d\n", what, rounds);
    fflush(stdout);
}

static void obey(const char *line)
{
    if (strcmp(line, "work") == 0) {
        work();
        say("worked");
    } else if (strcmp(line, "sync") == 0) {
        sync_all();
        say("synced");
    } else if (strcmp(line, "try") == 0) {
        int error = msync(map, LENGTH, MS_SYNC) == 0 ? 0 : errno;
        say(error == 0 ? "all is there" : error == ENOSPC ? "no space" : strerror(error));
    } else if (strcmp(line, "unmap") == 0) {
        CHECK(munmap(view, VIEW * PAGE) == 0);
        view = NULL;
        say("unmapped");
    } else if (strcmp(line, "read") == 0) {
        uint64_t begins[PAGES + 1];
        static char bytes[LENGTH];
        expect(rounds, begins);
        CHECK(pread(fd, bytes, LENGTH, 0) == LENGTH);
        for (int page = 0; page <= PAGES; page++)
            compare(bytes, page, begins[page]);
        say("read");
    } else if (strcmp(line, "write") == 0) {
        rounds++;
        for (int k = 0; k < 9; k++) {
            int page = (rounds * 31 + k * 83) % (PAGES + 1);
            uint64_t words[PAGE / 8];
            for (size_t i = 0; i < words_of(page); i++)
                words[i] = (uint64_t)rounds * 1000003u + i;
            CHECK(pwrite(fd, words, words_of(page) * 8, (off_t)page * PAGE) == (ssize_t)(words_of(page) * 8));
        }
        work();
        say("written");
    } else if (strcmp(line, "pass") == 0) {
        pid_t child = vfork();
        if (child == 0) {
            execl("/bin/true", "true", (char *)NULL);
            _exit(9);
        }
        int status;
        CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
        say("passed");
    } else {
        CHECK(!"an order that is known");
    }
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "check") == 0) {
        check_file(argv[2], atoi(argv[3]));
        puts("as it should be");
        return 0;
    }
    const char *how = argc > 2 ? argv[2] : "";
    CHECK(argc > 1);
    set_up(argv[1], strcmp(how, "open") == 0);
    if (strcmp(how, "twice") == 0) {
        int again = open(path, O_RDONLY);
        CHECK(again >= 0 && mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, again, 0) != MAP_FAILED);
        close(again);
    }
    ready();
    if (*how == 0) {
        do
            round_of_all();
        while (rounds < 30 || !asked_to_finish(2));
        CHECK(munmap(map, LENGTH) == 0);
        check_file(path, rounds);
        CHECK(truncate(path, 0) == 0);
        puts("ownfile: every page is what it should be");
        return 0;
    }
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (strcmp(line, "finish") == 0 || *line == 0)
            break;
        if (strcmp(line, "step") != 0)
            obey(line);
    }
    puts("unharmed");
    return 0;
}
