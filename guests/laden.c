/* A program with many mappings and descriptors: what "om why" has to look through.
 *
 * usage: laden MAPPINGS DESCRIPTORS; a quarter of the mappings are of its own file. */
#include "guest.h"
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    long mappings = atol(argv[1]), descriptors = atol(argv[2]);
    int self = open(argv[0], O_RDONLY | O_CLOEXEC);
    CHECK(self >= 0);
    for (long i = 0; i < mappings; i++) {
        /* Neighbours of different protection stay mappings of their own. */
        int protection = i % 2 ? PROT_READ : PROT_READ | PROT_WRITE;
        int of_file = i % 4 == 3;
        char *at = mmap(NULL, 8192, protection, MAP_PRIVATE | (of_file ? 0 : MAP_ANONYMOUS), of_file ? self : -1, 0);
        CHECK(at != MAP_FAILED);
        if (protection & PROT_WRITE)
            *at = 1;
    }
    for (long i = 0; i < descriptors;) {
        int pair[2] = { -1, -1 };
        switch (i % 10) {
        case 0: CHECK(pipe(pair) == 0); break;
        case 2: CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0); break;
        case 4: CHECK((pair[0] = eventfd(0, 0)) >= 0); break;
        case 5: CHECK((pair[0] = socket(AF_INET, SOCK_STREAM, 0)) >= 0); break;
        default: CHECK((pair[0] = open("/dev/null", O_RDWR)) >= 0); break;
        }
        i += pair[1] < 0 ? 1 : 2;
    }
    ready();
    while (!asked_to_finish(1000)) {
    }
    printf("laden: %ld mappings, %ld descriptors\n", mappings, descriptors);
    return 0;
}
