/* Fills every register with a pattern, computes for a while without any system call, and looks whether all are as
 * they were: general, x87, MXCSR, SSE, AVX, AVX-512, and the bases of fs and gs. */
#include "guest.h"
#include <asm/prctl.h>
#include <stddef.h>
#include <sys/syscall.h>

struct registers {
    uint8_t zmm[32][64];
    uint64_t mask[8];
    uint8_t x87[8][16];
    uint64_t general[8];
    uint32_t mxcsr;
    uint16_t control;
    uint16_t room;
};

static struct registers loaded __attribute__((aligned(64))), stored __attribute__((aligned(64)));
static uint64_t gs_area[2];

#define ZMM_LOW "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
#define EACH16(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11) x(12) x(13) x(14) x(15)
#define EACH16_HIGH(x) x(16) x(17) x(18) x(19) x(20) x(21) x(22) x(23) x(24) x(25) x(26) x(27) x(28) x(29) x(30) x(31)
#define SPIN "mov %[spins], %%rcx\n 1: dec %%rcx\n jnz 1b\n"

/* x87, MXCSR and the general registers that the compiler lets us have; then the vectors of each width. */
static void walk_general(uint64_t spins)
{
    __asm__ volatile(
        "ldmxcsr %c[mxcsr](%[in])\n fninit\n fldcw %c[control](%[in])\n"
#define FLD(n) "fldt %c[x87] + 16 * " #n "(%[in])\n"
        FLD(0) FLD(1) FLD(2) FLD(3) FLD(4) FLD(5) FLD(6) FLD(7)
        "mov %c[general](%[in]), %%rax\n mov %c[general] + 8(%[in]), %%rdx\n mov %c[general] + 16(%[in]), %%r8\n"
        "mov %c[general] + 24(%[in]), %%r9\n mov %c[general] + 32(%[in]), %%r10\n mov %c[general] + 40(%[in]), %%r11\n"
        "mov %c[general] + 48(%[in]), %%r12\n mov %c[general] + 56(%[in]), %%r13\n"
        SPIN
        "mov %%rax, %c[general](%[out])\n mov %%rdx, %c[general] + 8(%[out])\n mov %%r8, %c[general] + 16(%[out])\n"
        "mov %%r9, %c[general] + 24(%[out])\n mov %%r10, %c[general] + 32(%[out])\n mov %%r11, %c[general] + 40(%[out])\n"
        "mov %%r12, %c[general] + 48(%[out])\n mov %%r13, %c[general] + 56(%[out])\n"
        "stmxcsr %c[mxcsr](%[out])\n fnstcw %c[control](%[out])\n"
#define FSTP(n) "fstpt %c[x87] + 16 * " #n "(%[out])\n"
        FSTP(7) FSTP(6) FSTP(5) FSTP(4) FSTP(3) FSTP(2) FSTP(1) FSTP(0)
        :
        : [in] "S"(&loaded), [out] "D"(&stored), [spins] "rm"(spins), [mxcsr] "i"(offsetof(struct registers, mxcsr)),
          [control] "i"(offsetof(struct registers, control)), [x87] "i"(offsetof(struct registers, x87)),
          [general] "i"(offsetof(struct registers, general))
        : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "memory", "st", "st(1)", "st(2)", "st(3)", "st(4)",
          "st(5)", "st(6)", "st(7)");
}

static void walk_sse(uint64_t spins)
{
    __asm__ volatile(
#define LOAD(n) "movdqu 64 * " #n "(%[in]), %%xmm" #n "\n"
#define STORE(n) "movdqu %%xmm" #n ", 64 * " #n "(%[out])\n"
        EACH16(LOAD) SPIN EACH16(STORE)
#undef LOAD
#undef STORE
        :
        : [in] "S"(&loaded), [out] "D"(&stored), [spins] "rm"(spins)
        : "rcx", "memory", ZMM_LOW);
}

static void walk_avx(uint64_t spins)
{
    __asm__ volatile(
#define LOAD(n) "vmovdqu 64 * " #n "(%[in]), %%ymm" #n "\n"
#define STORE(n) "vmovdqu %%ymm" #n ", 64 * " #n "(%[out])\n"
        EACH16(LOAD) SPIN EACH16(STORE) "vzeroupper\n"
#undef LOAD
#undef STORE
        :
        : [in] "S"(&loaded), [out] "D"(&stored), [spins] "rm"(spins)
        : "rcx", "memory", ZMM_LOW);
}

/* The compiler does not use the upper sixteen and the masks here: it was not told that they exist. */
static void walk_avx512(uint64_t spins)
{
    __asm__ volatile(
#define LOAD(n) "vmovdqu64 64 * " #n "(%[in]), %%zmm" #n "\n"
#define STORE(n) "vmovdqu64 %%zmm" #n ", 64 * " #n "(%[out])\n"
#define KLOAD(n) "kmovq %c[mask] + 8 * " #n "(%[in]), %%k" #n "\n"
#define KSTORE(n) "kmovq %%k" #n ", %c[mask] + 8 * " #n "(%[out])\n"
        EACH16(LOAD) EACH16_HIGH(LOAD)
        KLOAD(0) KLOAD(1) KLOAD(2) KLOAD(3) KLOAD(4) KLOAD(5) KLOAD(6) KLOAD(7)
        SPIN
        EACH16(STORE) EACH16_HIGH(STORE)
        KSTORE(0) KSTORE(1) KSTORE(2) KSTORE(3) KSTORE(4) KSTORE(5) KSTORE(6) KSTORE(7)
        "vzeroupper\n"
        :
        : [in] "S"(&loaded), [out] "D"(&stored), [spins] "rm"(spins), [mask] "i"(offsetof(struct registers, mask))
        : "rcx", "memory", ZMM_LOW);
}

static void new_patterns(uint64_t *random)
{
    uint64_t *words = (uint64_t *)&loaded;
    for (size_t i = 0; i < sizeof loaded / 8; i++)
        words[i] = next_random(random);
    for (int i = 0; i < 8; i++) {
        long double value = (long double)next_random(random) / 3.0L;
        memset(loaded.x87[i], 0, 16);
        memcpy(loaded.x87[i], &value, 10);
    }
    /* All exceptions masked; rounding and precision as chance will. */
    loaded.mxcsr = 0x1f80 | (uint32_t)(next_random(random) % 4) << 13;
    loaded.control = 0x37f | (uint16_t)(next_random(random) % 4 << 10);
    memset(&stored, 0, sizeof stored);
}

static int same_vectors(int count, size_t width)
{
    for (int i = 0; i < count; i++)
        if (memcmp(loaded.zmm[i], stored.zmm[i], width) != 0)
            return 0;
    return 1;
}

int main(void)
{
    uint64_t random = 31, fs, gs, spins = 100000000;
    int avx = __builtin_cpu_supports("avx2"), wide = __builtin_cpu_supports("avx512bw");
    gs_area[0] = 0x1122334455667788;
    CHECK(syscall(SYS_arch_prctl, ARCH_SET_GS, gs_area) == 0);
    CHECK(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs) == 0);
    ready();
    int rounds = 0;
    do {
        new_patterns(&random);
        uint32_t usual = 0x1f80;
        walk_general(spins);
        __asm__ volatile("fninit\n ldmxcsr %0" : : "m"(usual));
        CHECK(memcmp(loaded.x87, stored.x87, sizeof loaded.x87) == 0);
        CHECK(memcmp(loaded.general, stored.general, sizeof loaded.general) == 0);
        CHECK(loaded.mxcsr == stored.mxcsr && loaded.control == stored.control);
        walk_sse(spins);
        CHECK(same_vectors(16, 16));
        if (avx) {
            walk_avx(spins);
            CHECK(same_vectors(16, 32));
        }
        if (wide) {
            walk_avx512(spins);
            CHECK(same_vectors(32, 64) && memcmp(loaded.mask, stored.mask, sizeof loaded.mask) == 0);
        }
        uint64_t by_gs, by_fs;
        __asm__ volatile("mov %%gs:0, %0" : "=r"(by_gs));
        __asm__ volatile("mov %%fs:0, %0" : "=r"(by_fs));
        CHECK(by_gs == gs_area[0] && by_fs == fs);
        CHECK(syscall(SYS_arch_prctl, ARCH_GET_GS, &gs) == 0 && gs == (uint64_t)gs_area);
    } while (++rounds < 3 || !asked_to_finish(0));
    puts("registers: all as they were");
    return 0;
}
