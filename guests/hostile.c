/* Tries to reach the host that it runs on: one attempt each time it is started.
 *
 * usage: hostile ATTEMPT VICTIM
 * It waits for a line with the pid of its warden; the victim's is one of the host's, too. It makes its attempt and says
 * "refused", "reached", or "did" where only others can tell; then it waits for the end of its input. */
#include "guest.h"
#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/io.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>

enum verdict { REFUSED, REACHED, DID };
static long victim, warden;

/* Calls by number and arguments. VICTIM and WARDEN stand for the pids, BUFFER for some zeroed memory. */
enum { VICTIM = -4711, WARDEN = -4712, BUFFER = -4713 };
static char buffer[1 << 16] __attribute__((aligned(4096)));

static const struct call {
    const char *name;
    long nr;
    long arguments[6];
    /* It succeeding at home is no harm; where it ran is for others to judge. */
    int may_succeed;
} calls[] = {
    { "signals-the-victim", SYS_kill, { VICTIM, SIGUSR1 }, 0 },
    { "signals-the-warden", SYS_kill, { WARDEN, SIGTERM }, 0 },
    { "signals-a-thread", SYS_tgkill, { VICTIM, VICTIM, SIGUSR1 }, 0 },
    { "queues-a-signal", SYS_rt_sigqueueinfo, { VICTIM, SIGUSR1, BUFFER }, 0 },
    { "signals-everybody", SYS_kill, { -1, SIGUSR1 }, 1 },
    { "traces-the-victim", SYS_ptrace, { PTRACE_SEIZE, VICTIM, 0, 0 }, 0 },
    { "traces-the-warden", SYS_ptrace, { PTRACE_SEIZE, WARDEN, 0, 0 }, 0 },
    { "opens-the-victim", SYS_pidfd_open, { VICTIM, 0 }, 0 },
    { "opens-the-warden", SYS_pidfd_open, { WARDEN, 0 }, 0 },
    { "compares-with-the-victim", SYS_kcmp, { VICTIM, WARDEN, 0, 0, 0 }, 0 },
    { "moves-the-victims-pages", SYS_migrate_pages, { VICTIM, 8, BUFFER, BUFFER }, 0 },
    { "slows-the-victim", SYS_setpriority, { PRIO_PROCESS, VICTIM, 19 }, 0 },
    { "limits-the-victim", SYS_prlimit64, { VICTIM, RLIMIT_NOFILE, BUFFER, 0 }, 0 },
    { "pins-the-victim", SYS_sched_setaffinity, { VICTIM, 8, BUFFER }, 0 },
    { "schedules-the-victim", SYS_sched_setscheduler, { VICTIM, SCHED_IDLE, BUFFER }, 0 },
    { "asks-for-the-victims-robust-list", SYS_get_robust_list, { VICTIM, BUFFER, BUFFER }, 0 },
    { "asks-for-the-victims-io-priority", SYS_ioprio_get, { 1, VICTIM }, 0 },
    { "opens-by-handle", SYS_open_by_handle_at, { AT_FDCWD, BUFFER, O_RDONLY }, 0 },
    { "enters-a-namespace", SYS_setns, { 0, CLONE_NEWNET }, 0 },
    { "becomes-root", SYS_setuid, { 0 }, 0 },
    { "sets-the-clock", SYS_clock_settime, { CLOCK_REALTIME, BUFFER }, 0 },
    { "reboots", SYS_reboot, { 0xfee1dead, 672274793, 0x01234567, 0 }, 0 },
    { "loads-a-module", SYS_init_module, { BUFFER, 64, BUFFER }, 0 },
    { "loads-a-kernel", SYS_kexec_load, { 0, 0, 0, 0 }, 0 },
    { "sees-the-log", SYS_syslog, { 4, BUFFER, 4096 }, 0 },
    { "opens-ports", SYS_ioperm, { 0x80, 1, 1 }, 0 },
    { "opens-all-ports", SYS_iopl, { 3 }, 0 },
    { "is-x32", 0x40000000 | SYS_getpid, { 0 }, 0 },
    { "is-of-the-future", 600, { 0 }, 0 },
    { "is-of-a-far-future", 0x3fffffff, { 0 }, 0 },
    { "is-no-number", 0xffffffff, { 0 }, 0 },
    { "is-negative", 0x80000027, { 0 }, 0 },
    { "locks-what-the-warden-owns", SYS_futex, { BUFFER, FUTEX_LOCK_PI, 0, 0, 0, 0 }, 0 },
    { "uses-a-ring", SYS_io_uring_setup, { 8, BUFFER }, 1 },
    { "loads-a-program", SYS_bpf, { 5, BUFFER, 64 }, 1 },
    { "measures", SYS_perf_event_open, { BUFFER, 0, -1, -1, 0 }, 1 },
    { "pages-by-itself", SYS_userfaultfd, { 0 }, 1 },
    { "asks-for-keys", SYS_keyctl, { 0, -3, 1, 0, 0 }, 1 },
    { "unshares", SYS_unshare, { CLONE_NEWUSER | CLONE_NEWNS }, 1 },
    { "filters-itself", SYS_seccomp, { 2, 0, 0 }, 1 },
    { "locks-memory", SYS_mlockall, { 1 }, 1 },
};

static enum verdict make_call(const struct call *call)
{
    long arguments[6];
    if (call->nr == SYS_futex)
        memcpy(buffer, &(uint32_t){ (uint32_t)warden }, 4);
    for (int i = 0; i < 6; i++)
        switch (arguments[i] = call->arguments[i]) {
        case VICTIM: arguments[i] = victim; break;
        case WARDEN: arguments[i] = warden; break;
        case BUFFER: arguments[i] = (long)buffer; break;
        }
    long ret = syscall(call->nr, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
    return ret == -1 ? REFUSED : call->may_succeed ? DID : REACHED;
}

static enum verdict sees_processes(void)
{
    DIR *processes = opendir("/proc");
    CHECK(processes != NULL);
    enum verdict verdict = REFUSED;
    for (struct dirent *entry; (entry = readdir(processes)) != NULL;) {
        char path[300], name[64] = "";
        snprintf(path, sizeof path, "/proc/%.200s/comm", entry->d_name);
        int fd = open(path, O_RDONLY);
        if (fd < 0)
            continue;
        if (read(fd, name, sizeof name - 1) > 0 && (!strcmp(name, "victim\n") || !strcmp(name, "omd-warden\n")))
            verdict = REACHED;
        close(fd);
    }
    closedir(processes);
    return verdict;
}

static enum verdict opens(const char *path)
{
    return open(path, O_RDWR) < 0 ? REFUSED : REACHED;
}

static enum verdict opens_a_file(void) { return opens("/tmp/om-victim"); }
static enum verdict opens_by_the_root_of_init(void) { return opens("/proc/1/root/tmp/om-victim"); }
static enum verdict opens_by_its_own_root(void) { return opens("/proc/self/root/tmp/om-victim"); }
static enum verdict opens_the_victims_memory(void)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/mem", victim);
    return opens(path);
}

static enum verdict reads_the_victim(void)
{
    struct iovec here = { buffer, 16 }, there = { (void *)0x400000, 16 };
    return process_vm_readv((pid_t)victim, &here, 1, &there, 1, 0) < 0 ? REFUSED : REACHED;
}

static enum verdict connects(int domain, const void *address, socklen_t length)
{
    int fd = socket(domain, SOCK_STREAM, 0);
    CHECK(fd >= 0);
    return connect(fd, address, length) < 0 ? REFUSED : REACHED;
}

static enum verdict connects_by_name(void)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = "\0om-victim" };
    return connects(AF_UNIX, &name, offsetof(struct sockaddr_un, sun_path) + sizeof "\0om-victim" - 1);
}

static enum verdict connects_by_port(void)
{
    struct sockaddr_in port = { .sin_family = AF_INET, .sin_port = htons(7777) };
    port.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return connects(AF_INET, &port, sizeof port);
}

static enum verdict attaches_shared_memory(void) { return shmget(0x6f6d, 4096, 0) < 0 ? REFUSED : REACHED; }
static enum verdict opens_a_queue(void) { return mq_open("/om-victim", O_RDWR) == (mqd_t)-1 ? REFUSED : REACHED; }
static enum verdict opens_a_raw_socket(void) { return socket(AF_PACKET, SOCK_RAW, 0) < 0 ? REFUSED : REACHED; }
static enum verdict mounts(void) { return mount("none", "/mnt", "tmpfs", 0, NULL) < 0 ? REFUSED : REACHED; }

static enum verdict sees_its_host(void)
{
    struct utsname name;
    CHECK(uname(&name) == 0);
    return strcmp(name.nodename, "n1") == 0 ? REFUSED : REACHED;
}

static enum verdict renames_its_host(void)
{
    CHECK(sethostname("stolen", 6) == 0);
    CHECK(sethostname("n1", 2) == 0);
    return DID;
}

static enum verdict is_32_bit(void)
{
    long pid;
    __asm__ volatile("int $0x80" : "=a"(pid) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
    return pid > 0 ? REACHED : REFUSED;
}

static sigjmp_buf back;
static void caught(int signal)
{
    siglongjmp(back, signal);
}

/* Whether what follows ends in a signal of the CPU's: if (faults()) ...; else it is done. */
#define FAULTS \
    (sigaction(SIGSEGV, &(struct sigaction){ .sa_handler = caught, .sa_flags = SA_NODEFER }, NULL), \
     sigaction(SIGBUS, &(struct sigaction){ .sa_handler = caught, .sa_flags = SA_NODEFER }, NULL), \
     sigsetjmp(back, 1) != 0)

static enum verdict writes_to_a_port(void)
{
    if (FAULTS)
        return REFUSED;
    outb(0, 0x80);
    return REACHED;
}

static enum verdict writes_to_kernel_memory(void)
{
    if (FAULTS)
        return REFUSED;
    *(volatile char *)0xffffffff81000000 = 0;
    return REACHED;
}

/* Its own copy of the vDSO may be written to; nobody else's may change by it. */
static enum verdict writes_to_the_vdso(void)
{
    char *page = (char *)getauxval(AT_SYSINFO_EHDR);
    if (FAULTS || mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) < 0)
        return REFUSED;
    page[16] ^= 0xff;
    page[16] ^= 0xff;
    page[4000] = 0x55;
    return DID;
}

/* The kernel's data pages before it belong to everybody. */
static enum verdict writes_to_the_clock(void)
{
    char *page = (char *)getauxval(AT_SYSINFO_EHDR) - 4096;
    if (FAULTS || mprotect(page, 4096, PROT_READ | PROT_WRITE) < 0)
        return REFUSED;
    page[0] ^= 1;
    return REACHED;
}

static enum verdict maps_the_first_page(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    return page == MAP_FAILED ? REFUSED : REACHED;
}

static enum verdict lies_about_its_locks(void)
{
    static struct robust_list_head head;
    /* It goes round in a ring, and the words are the kernel's, then nobody's. */
    head.list.next = (struct robust_list *)&head.list.next + 1;
    head.futex_offset = (long)(0xffff888000000000ul - (unsigned long)&head);
    head.list_op_pending = (struct robust_list *)8;
    CHECK(syscall(SYS_set_robust_list, &head, sizeof head) == 0);
    CHECK(syscall(SYS_set_tid_address, (int *)0xffffffff81000000) > 0);
    return DID;
}

static enum verdict waits_on_everything(void)
{
    for (unsigned long at = 0; at < 64; at++) {
        unsigned long address = at << 58 | 0x1000;
        syscall(SYS_futex, address, FUTEX_WAKE, 1 << 30, NULL, NULL, 0);
        syscall(SYS_madvise, address & ~4095ul, 1 << 20, MADV_DONTNEED);
        syscall(SYS_munmap, address & ~4095ul, 4096);
        syscall(SYS_mprotect, address & ~4095ul, 4096, PROT_READ);
    }
    return DID;
}

static enum verdict takes_all_descriptors(void)
{
    int file = open("/proc/self/exe", O_RDONLY);
    CHECK(file >= 0);
    for (int number = 100; number < 400; number++) {
        if (dup2(file, number) < 0)
            return REFUSED;
        if (mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, number, 0) == MAP_FAILED)
            return REFUSED;
    }
    return DID;
}

static enum verdict runs_another_program(void)
{
    int program = memfd_create("program", 0), own = open("/proc/self/exe", O_RDONLY);
    CHECK(program >= 0 && own >= 0);
    for (ssize_t got; (got = read(own, buffer, sizeof buffer)) > 0;)
        CHECK(write(program, buffer, (size_t)got) == got);
    fexecve(program, (char *[]){ "hostile", "sees-its-host", "0", "at once", NULL }, (char *[]){ NULL });
    return REACHED;
}

static void *sleeps(void *unused)
{
    sleep_ms(100000);
    return unused;
}

static enum verdict makes_threads(void)
{
    pthread_attr_t small;
    pthread_t thread;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 1 << 16);
    for (int count = 0; count < 300; count++)
        if (pthread_create(&thread, &small, sleeps, NULL) != 0)
            return REFUSED;
    return DID;
}

static enum verdict makes_processes(void)
{
    int count = 0;
    pid_t made[200];
    for (; count < 200; count++) {
        made[count] = fork();
        if (made[count] < 0)
            break;
        if (made[count] == 0) {
            pause();
            _exit(0);
        }
    }
    for (int i = 0; i < count; i++) {
        kill(made[i], SIGKILL);
        waitpid(made[i], NULL, 0);
    }
    return count < 200 ? REFUSED : DID;
}

static enum verdict takes_all_memory(void)
{
    for (int megabytes = 0; megabytes < 512; megabytes++) {
        char *more = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (more == MAP_FAILED)
            return REFUSED;
        memset(more, 1, 1 << 20);
    }
    return REACHED;
}

static const struct {
    const char *name;
    enum verdict (*make)(void);
} attempts[] = {
    { "sees-processes", sees_processes },
    { "sees-its-host", sees_its_host },
    { "opens-a-file", opens_a_file },
    { "opens-by-the-root-of-init", opens_by_the_root_of_init },
    { "opens-by-its-own-root", opens_by_its_own_root },
    { "opens-the-victims-memory", opens_the_victims_memory },
    { "reads-the-victim", reads_the_victim },
    { "connects-by-name", connects_by_name },
    { "connects-by-port", connects_by_port },
    { "attaches-shared-memory", attaches_shared_memory },
    { "opens-a-queue", opens_a_queue },
    { "opens-a-raw-socket", opens_a_raw_socket },
    { "mounts", mounts },
    { "renames-its-host", renames_its_host },
    { "is-32-bit", is_32_bit },
    { "writes-to-a-port", writes_to_a_port },
    { "writes-to-kernel-memory", writes_to_kernel_memory },
    { "writes-to-the-vdso", writes_to_the_vdso },
    { "writes-to-the-clock", writes_to_the_clock },
    { "maps-the-first-page", maps_the_first_page },
    { "lies-about-its-locks", lies_about_its_locks },
    { "waits-on-everything", waits_on_everything },
    { "takes-all-descriptors", takes_all_descriptors },
    { "runs-another-program", runs_another_program },
    { "makes-threads", makes_threads },
    { "makes-processes", makes_processes },
    { "takes-all-memory", takes_all_memory },
};

static enum verdict attempt(const char *name)
{
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (!strcmp(calls[i].name, name))
            return make_call(&calls[i]);
    for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++)
        if (!strcmp(attempts[i].name, name))
            return attempts[i].make();
    printf("no attempt is called %s\n", name);
    exit(1);
}

int main(int count, char **words)
{
    char line[16] = "";
    CHECK(count >= 3);
    victim = atol(words[2]);
    signal(SIGUSR1, SIG_IGN);
    if (count == 3) {
        ready();
        CHECK(read(0, line, sizeof line - 1) > 0);
        warden = atol(line);
    }
    enum verdict verdict = attempt(words[1]);
    puts(verdict == REFUSED ? "refused" : verdict == REACHED ? "reached" : "did");
    fflush(stdout);
    while (read(0, line, sizeof line) > 0) {
    }
    return 0;
}
