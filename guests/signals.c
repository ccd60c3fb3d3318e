/* Signals, sent by a child that stays at home, with everything a program can learn about them. */
#include "guest.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static int orders[2], answers[2], receipts[2];
static pid_t sender;
static volatile sig_atomic_t restarting, interrupting, on_other_stack, depth, depth_max;
/* Whether the program is about to wait, or waits; what a signal that wants a receipt found. */
static volatile sig_atomic_t waiting, found_waiting, wants_receipt;
static siginfo_t last;
static char *other_stack;
static sigjmp_buf escape;
static volatile uintptr_t fault_address;

static void on_usr1(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    last = *info;
    restarting++;
}

static void on_usr2(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    last = *info;
    interrupting++;
    if (wants_receipt) {
        found_waiting = waiting;
        CHECK(write(receipts[1], "r", 1) == 1);
    }
}

static void on_nested(int number)
{
    depth++;
    if (depth > depth_max)
        depth_max = depth;
    if (number == SIGRTMIN)
        kill(getpid(), SIGRTMIN + 1);
    depth--;
}

static void on_stack(int number)
{
    char here;
    (void)number;
    on_other_stack = &here >= other_stack && &here < other_stack + 65536;
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    fault_address = (uintptr_t)info->si_addr;
    siglongjmp(escape, 1);
}

/* The child: each order is a letter, answered by a letter after the signal has gone out. */
static void send_signals(pid_t to)
{
    char order;
    while (read(orders[0], &order, 1) == 1) {
        union sigval value = { .sival_int = 4711 };
        switch (order) {
        case '1': kill(to, SIGUSR1); break;
        case '2': kill(to, SIGUSR2); break;
        case 'h': kill(to, SIGHUP); break;
        case 'q': sigqueue(to, SIGUSR1, value); break;
        case 'n': kill(to, SIGRTMIN); break;
        case 's': kill(to, SIGRTMIN + 2); break;
        case 'w': sleep_ms(30); kill(to, SIGUSR2); CHECK(read(receipts[0], &order, 1) == 1); break;
        case 'r': sleep_ms(30); kill(to, SIGUSR1); sleep_ms(30); break;
        }
        CHECK(write(answers[1], "a", 1) == 1);
    }
    _exit(0);
}

static void order(char letter)
{
    wants_receipt = letter == 'w';
    CHECK(write(orders[1], &letter, 1) == 1);
}

/* Waits for the answer; says how often the wait was interrupted. */
static int answer(void)
{
    char byte;
    int interrupted = 0;
    waiting = 1;
    while (read(answers[0], &byte, 1) != 1) {
        CHECK(errno == EINTR);
        interrupted++;
    }
    waiting = 0;
    return interrupted;
}

static void until(volatile sig_atomic_t *counter, int value)
{
    double start = seconds(CLOCK_MONOTONIC);
    while (*counter < value)
        CHECK(seconds(CLOCK_MONOTONIC) - start < 10);
}

static void handle(int number, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = flags | SA_SIGINFO };
    CHECK(sigaction(number, &action, NULL) == 0);
}

static void one_round(void)
{
    restarting = interrupting = 0;
    /* A restarting handler: the read goes on as if nothing had happened. */
    order('r');
    CHECK(answer() == 0);
    CHECK(restarting == 1 && last.si_code == SI_USER && last.si_pid == sender && last.si_uid == getuid());
    /* The other kind: the read says so, once; the answer comes after the receipt. A program that does not get to its read
     * in time, on whatever machine, has taken the signal before. */
    order('w');
    int interrupted = answer();
    CHECK(interrupting == 1 && interrupted == found_waiting);
    /* A sleep that is cut short says how much was left. */
    struct timespec three = { 3, 0 }, left = { 0, 0 };
    order('w');
    waiting = 1;
    int slept = nanosleep(&three, &left), error = errno;
    waiting = 0;
    CHECK(interrupting == 2 && slept == -found_waiting);
    CHECK(slept == 0 || (error == EINTR && left.tv_sec <= 2 && left.tv_sec >= 0));
    CHECK(answer() == 0);
    wants_receipt = 0;

    /* Blocked: pending until it is let through. */
    sigset_t block, pending, before;
    sigemptyset(&block);
    sigaddset(&block, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &block, &before) == 0);
    order('1');
    answer();
    double start = seconds(CLOCK_MONOTONIC);
    do
        CHECK(sigpending(&pending) == 0 && seconds(CLOCK_MONOTONIC) - start < 10);
    while (!sigismember(&pending, SIGUSR1));
    CHECK(restarting == 1);
    CHECK(sigprocmask(SIG_SETMASK, &before, NULL) == 0 && restarting == 2);
    CHECK(sigpending(&pending) == 0 && !sigismember(&pending, SIGUSR1));

    order('h');
    CHECK(answer() == 0);
    order('q');
    answer();
    until(&restarting, 3);
    CHECK(last.si_code == SI_QUEUE && last.si_pid == sender && last.si_value.sival_int == 4711);

    depth_max = 0;
    order('n');
    answer();
    until(&depth_max, 2);
    on_other_stack = 0;
    order('s');
    answer();
    until(&on_other_stack, 1);

    /* A fault of its own, escaped from by a jump out of the handler. */
    uintptr_t hole = 0x10008;
    fault_address = 0;
    if (sigsetjmp(escape, 1) == 0) {
        *(volatile char *)hole = 1;
        CHECK(!"reached");
    }
    CHECK(fault_address == hole);
    /* To itself: handled before kill returns. */
    CHECK(kill(getpid(), SIGUSR1) == 0 && restarting == 4 && last.si_pid == getpid());
    CHECK(raise(SIGUSR2) == 0 && interrupting == 3 && last.si_code == SI_TKILL);
}

int main(void)
{
    pid_t self = getpid();
    CHECK(pipe(orders) == 0 && pipe(answers) == 0 && pipe(receipts) == 0);
    fflush(stdout);
    sender = fork();
    CHECK(sender >= 0);
    if (sender == 0) {
        close(orders[1]);
        close(answers[0]);
        send_signals(self);
    }
    close(orders[0]);
    close(answers[1]);
    other_stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t stack = { .ss_sp = other_stack, .ss_size = 65536 };
    CHECK(other_stack != MAP_FAILED && sigaltstack(&stack, NULL) == 0);
    handle(SIGUSR1, on_usr1, SA_RESTART);
    handle(SIGUSR2, on_usr2, 0);
    handle(SIGSEGV, on_fault, SA_RESTART | SA_ONSTACK);
    struct sigaction plain = { .sa_handler = on_nested, .sa_flags = SA_RESTART };
    CHECK(sigaction(SIGRTMIN, &plain, NULL) == 0 && sigaction(SIGRTMIN + 1, &plain, NULL) == 0);
    plain.sa_handler = on_stack, plain.sa_flags = SA_RESTART | SA_ONSTACK;
    CHECK(sigaction(SIGRTMIN + 2, &plain, NULL) == 0);
    CHECK(signal(SIGHUP, SIG_IGN) != SIG_ERR);
    ready();
    int rounds = 0;
    do
        one_round();
    while (++rounds < 2 || !asked_to_finish(0));
    close(orders[1]);
    int status;
    CHECK(waitpid(sender, &status, 0) == sender && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    puts("signals: each came once, told the truth, and did what was asked");
    /* The parent must see this very signal as the cause of the end. */
    fflush(stdout);
    CHECK(signal(SIGTERM, SIG_DFL) != SIG_ERR);
    kill(getpid(), SIGTERM);
    return 1;
}
