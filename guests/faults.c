/* Raises faults on purpose and handles them, as virtual machines do: none may be lost, doubled, or become a death. */
#include "guest.h"
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

static volatile sig_atomic_t handled[4];
static void *forbidden;

/* Each handler leads the program around the instruction, and checks that the fault is told as what it is. */
static void on_fault(int number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    CHECK(info->si_code > 0);
    switch (number) {
    case SIGSEGV:
        CHECK(info->si_addr == forbidden && registers[REG_RAX] == (greg_t)forbidden);
        registers[REG_RAX] = (greg_t)&handled;
        handled[0]++;
        break;
    case SIGILL:
        registers[REG_RIP] += 2;
        handled[1]++;
        break;
    case SIGFPE:
        registers[REG_RCX] = 1;
        handled[2]++;
        break;
    }
}

int main(void)
{
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0 && sigaction(SIGILL, &action, NULL) == 0);
    CHECK(sigaction(SIGFPE, &action, NULL) == 0);
    forbidden = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(forbidden != MAP_FAILED);
    ready();
    do {
        handled[0] = handled[1] = handled[2] = 0;
        for (int i = 0; i < 20000; i++) {
            void *address = forbidden;
            __asm__ volatile("mov (%%rax), %%rdx" : "+a"(address) : : "rdx", "memory");
            __asm__ volatile("ud2" : : : "memory");
            __asm__ volatile("xor %%ecx, %%ecx; mov $1, %%eax; cltd; idivl %%ecx" : : : "rax", "rcx", "rdx", "cc");
            CHECK(handled[0] == i + 1 && handled[1] == i + 1 && handled[2] == i + 1);
        }
    } while (!asked_to_finish(0));
    puts("faults: each was handled once");
    return 0;
}
