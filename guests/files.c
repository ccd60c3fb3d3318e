/* Every call on files and directories, in rounds, each result compared with what a file system must answer.
 *
 * usage: files DIRECTORY (empty, ours) */
#include "guest.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>

static void contents(void)
{
    char read_back[64] = { 0 };
    int fd = open("data", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    CHECK(fd >= 0);
    CHECK(open("data", O_RDWR | O_CREAT | O_EXCL, 0640) == -1 && errno == EEXIST);
    CHECK(write(fd, "hello world", 11) == 11);
    CHECK(lseek(fd, 0, SEEK_CUR) == 11);
    CHECK(pwrite(fd, "W", 1, 6) == 1);
    CHECK(pread(fd, read_back, 5, 6) == 5 && memcmp(read_back, "World", 5) == 0);
    struct iovec out[3] = { { "a", 1 }, { "", 0 }, { "bcd", 3 } };
    CHECK(writev(fd, out, 3) == 4);
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    char left[8], right[32];
    struct iovec in[2] = { { left, 6 }, { right, sizeof right } };
    CHECK(readv(fd, in, 2) == 15);
    CHECK(memcmp(left, "hello ", 6) == 0 && memcmp(right, "Worldabcd", 9) == 0);
    CHECK(read(fd, read_back, 1) == 0);
    CHECK(pwritev(fd, out, 3, 100) == 4 && preadv(fd, in, 1, 100) == 4 && memcmp(left, "abcd", 4) == 0);
    CHECK(lseek(fd, -4, SEEK_END) == 100);
    CHECK(lseek(fd, -1, SEEK_SET) == -1 && errno == EINVAL);
    CHECK(ftruncate(fd, 5) == 0 && lseek(fd, 0, SEEK_END) == 5);
    CHECK(posix_fallocate(fd, 0, 4096) == 0);
    CHECK(fsync(fd) == 0 && fdatasync(fd) == 0);
    CHECK(truncate("data", 7) == 0);
    /* A bad buffer is told as such, wherever the program runs. */
    void *volatile nowhere = (void *)8;
    CHECK(write(fd, nowhere, 10) == -1 && errno == EFAULT);
    CHECK(pread(fd, nowhere, 7, 0) == -1 && errno == EFAULT);
    CHECK(write(-1, "x", 1) == -1 && errno == EBADF);

    /* More than one frame may carry in one piece. */
    size_t size = 6 << 20;
    char *big = malloc(size), *again = malloc(size);
    CHECK(big && again);
    uint64_t random = 7;
    for (size_t i = 0; i + 8 <= size; i += 8) {
        uint64_t value = next_random(&random);
        memcpy(big + i, &value, 8);
    }
    CHECK(pwrite(fd, big, size, 0) == (ssize_t)size);
    CHECK(pread(fd, again, size, 0) == (ssize_t)size && memcmp(big, again, size) == 0);
    free(big);
    free(again);
    CHECK(close(fd) == 0);
    CHECK(close(fd) == -1 && errno == EBADF);
}

static void names(void)
{
    struct stat status, other;
    struct statx extended;
    char target[16];
    CHECK(stat("data", &status) == 0 && S_ISREG(status.st_mode) && (status.st_mode & 0777) == 0640);
    CHECK(status.st_size == 6 << 20 && status.st_nlink == 1);
    CHECK(statx(AT_FDCWD, "data", 0, STATX_ALL, &extended) == 0 && extended.stx_ino == status.st_ino);
    CHECK(stat("nothing", &other) == -1 && errno == ENOENT);
    CHECK(access("data", R_OK | W_OK) == 0 && access("nothing", F_OK) == -1 && errno == ENOENT);
    CHECK(link("data", "hard") == 0 && stat("hard", &other) == 0 && other.st_ino == status.st_ino && other.st_nlink == 2);
    CHECK(symlink("data", "soft") == 0 && lstat("soft", &other) == 0 && S_ISLNK(other.st_mode));
    CHECK(readlink("soft", target, sizeof target) == 4 && memcmp(target, "data", 4) == 0);
    CHECK(rename("hard", "harder") == 0 && access("hard", F_OK) == -1);
    CHECK(renameat2(AT_FDCWD, "harder", AT_FDCWD, "soft", RENAME_NOREPLACE) == -1 && errno == EEXIST);
    CHECK(chmod("data", 0600) == 0 && stat("data", &status) == 0 && (status.st_mode & 0777) == 0600);
    struct timespec times[2] = { { 1000, 5 }, { 2000, 7 } };
    CHECK(utimensat(AT_FDCWD, "data", times, 0) == 0 && stat("data", &status) == 0);
    CHECK(status.st_atim.tv_sec == 1000 && status.st_mtim.tv_sec == 2000);
    CHECK(chown("data", getuid(), getgid()) == 0);
    CHECK(unlink("harder") == 0 && unlink("soft") == 0 && unlink("soft") == -1 && errno == ENOENT);
    struct statvfs system;
    CHECK(statvfs(".", &system) == 0 && system.f_bsize > 0);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void directories(void)
{
    char name[32], cwd[4096], *list[128];
    CHECK(mkdir("many", 0755) == 0 && mkdir("many", 0755) == -1 && errno == EEXIST);
    int dir = open("many", O_RDONLY | O_DIRECTORY);
    CHECK(dir >= 0);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "entry%02d", i);
        int fd = openat(dir, name, O_CREAT | O_WRONLY, 0600);
        CHECK(fd >= 0 && close(fd) == 0);
    }
    CHECK(rmdir("many") == -1 && errno == ENOTEMPTY);
    DIR *stream = fdopendir(dir);
    CHECK(stream);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(stream));)
        if (entry->d_name[0] != '.')
            list[count++] = strdup(entry->d_name);
    CHECK(count == 100);
    qsort(list, (size_t)count, sizeof list[0], by_name);
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "entry%02d", i);
        CHECK(strcmp(list[i], name) == 0 && unlinkat(dir, name, 0) == 0);
        free(list[i]);
    }
    CHECK(fchdir(dir) == 0 && getcwd(cwd, sizeof cwd) && strlen(cwd) > 5);
    CHECK(strcmp(cwd + strlen(cwd) - 5, "/many") == 0 && chdir("..") == 0);
    CHECK(closedir(stream) == 0 && rmdir("many") == 0);
    mode_t mask = umask(027);
    CHECK(mkdir("masked", 0777) == 0 && umask(mask) == 027);
    struct stat status;
    CHECK(stat("masked", &status) == 0 && (status.st_mode & 0777) == 0750 && rmdir("masked") == 0);
}

static void descriptors(void)
{
    int fd = open("data", O_RDWR);
    CHECK(fd >= 0);
    int copy = dup(fd), high = fcntl(fd, F_DUPFD_CLOEXEC, 200);
    CHECK(copy > fd && high >= 200);
    CHECK(lseek(fd, 17, SEEK_SET) == 17 && lseek(copy, 0, SEEK_CUR) == 17 && lseek(high, 0, SEEK_CUR) == 17);
    CHECK(dup2(fd, 300) == 300 && dup3(fd, 301, O_CLOEXEC) == 301 && dup3(fd, fd, 0) == -1 && errno == EINVAL);
    CHECK(fcntl(301, F_GETFD) == FD_CLOEXEC && fcntl(300, F_GETFD) == 0 && fcntl(300, F_SETFD, FD_CLOEXEC) == 0);
    CHECK((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR && fcntl(fd, F_SETFL, O_APPEND) == 0);
    CHECK(fcntl(copy, F_GETFL) & O_APPEND);
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10 };
    CHECK(fcntl(fd, F_SETLK, &lock) == 0);
    int other = open("data", O_RDWR);
    struct flock seen = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 15, .l_len = 1 };
    CHECK(other >= 0 && fcntl(other, F_OFD_GETLK, &seen) == 0 && seen.l_type == F_WRLCK && seen.l_start == 10);
    CHECK(seen.l_pid == getpid());
    lock.l_type = F_UNLCK;
    CHECK(fcntl(fd, F_SETLK, &lock) == 0);
    CHECK(close_range(300, 301, 0) == 0 && fcntl(300, F_GETFD) == -1 && errno == EBADF);
    CHECK(close(fd) == 0 && close(copy) == 0 && close(high) == 0 && close(other) == 0);

    int memory = memfd_create("scratch", MFD_CLOEXEC);
    CHECK(memory >= 0 && write(memory, "abc", 3) == 3 && close(memory) == 0);
    int random = open("/dev/urandom", O_RDONLY);
    char bytes[16];
    CHECK(random >= 0 && read(random, bytes, sizeof bytes) == 16 && close(random) == 0);
    int nowhere = open("/dev/null", O_WRONLY);
    CHECK(nowhere >= 0 && write(nowhere, bytes, 16) == 16 && close(nowhere) == 0);
}

int main(int argc, char **argv)
{
    int input = open(argv[0], O_RDONLY);
    CHECK(input >= 0 && argc == 2 && chdir(argv[1]) == 0);
    /* Open all the time: offset and append mode must survive every move. */
    int log = open("log", O_WRONLY | O_CREAT | O_APPEND, 0644);
    CHECK(log >= 0);
    off_t offset = 0;
    ready();
    int rounds = 0;
    do {
        contents();
        names();
        directories();
        descriptors();
        CHECK(unlink("data") == 0);
        char magic[16];
        CHECK(lseek(input, 0, SEEK_CUR) == offset);
        CHECK(read(input, magic, 16) == 16);
        offset += 16;
        rounds++;
        if (rounds <= 3)
            CHECK(dprintf(log, "round %d\n", rounds) == 8);
    } while (rounds < 3 || !asked_to_finish(0));
    puts("files: every call answered as it must");
    return 0;
}
