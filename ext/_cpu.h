/* Which x86-64 level this processor and its operating system run: 4, 3, or 0 for neither; 0 elsewhere. */

#ifndef BACKTEST_CPU_H
#define BACKTEST_CPU_H

#include <stdint.h>

#if defined(__x86_64__) || defined(_M_X64)

#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif

static void backtest_cpuid(uint32_t leaf, uint32_t out[4]) {
#if defined(_MSC_VER)
    int registers[4];
    __cpuidex(registers, (int) leaf, 0);
    for (int i = 0; i < 4; i++) out[i] = (uint32_t) registers[i];
#else
    if (!__get_cpuid_count(leaf, 0, &out[0], &out[1], &out[2], &out[3])) out[0] = out[1] = out[2] = out[3] = 0;
#endif
}

/* Register states that the operating system saves: a processor may have AVX-512 and the system not. */
static uint64_t backtest_saved_states(void) {
#if defined(_MSC_VER)
    return _xgetbv(0);
#else
    uint32_t low, high;
    __asm__ volatile(".byte 0x0f, 0x01, 0xd0" : "=a"(low), "=d"(high) : "c"(0)); /* xgetbv, for assemblers without it */
    return ((uint64_t) high << 32) | low;
#endif
}

static int backtest_cpu_level(void) {
    const uint32_t fma_movbe_osxsave_avx_f16c = 1u << 12 | 1u << 22 | 1u << 27 | 1u << 28 | 1u << 29;
    const uint32_t bmi1_avx2_bmi2 = 1u << 3 | 1u << 5 | 1u << 8;
    const uint32_t avx512_f_dq_cd_bw_vl = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;
    const uint32_t lzcnt = 1u << 5;
    uint32_t one[4], seven[4], extended[4];
    backtest_cpuid(1, one);
    backtest_cpuid(7, seven);
    backtest_cpuid(0x80000001u, extended);
    if ((one[2] & fma_movbe_osxsave_avx_f16c) != fma_movbe_osxsave_avx_f16c) return 0;
    if ((seven[1] & bmi1_avx2_bmi2) != bmi1_avx2_bmi2 || (extended[2] & lzcnt) != lzcnt) return 0;
    if ((backtest_saved_states() & 0x06) != 0x06) return 0;
    if ((seven[1] & avx512_f_dq_cd_bw_vl) != avx512_f_dq_cd_bw_vl || (backtest_saved_states() & 0xe6) != 0xe6) return 3;
    return 4;
}

#else

static int backtest_cpu_level(void) { return 0; }

#endif

#endif
