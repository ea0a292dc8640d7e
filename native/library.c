/* What this machine can run, and the packing of matrices. */

#include "mynah.h"

#include <string.h>
#if defined(__linux__)
#include <malloc.h>
#endif

#if defined(__x86_64__) || defined(_M_X64)
#include <cpuid.h>

static uint64_t enabled_state(void) { /* register sets that the operating system keeps */
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((uint64_t)high << 32) | low;
}

static int can_run(const kernel_set *kernels) {
    uint32_t a, b, c, d;
    if (kernels == &kernels_portable) return 1;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    int fma = c >> 12 & 1, saved = c >> 27 & 1, halves = c >> 29 & 1;
    if (!fma || !saved || !halves || (enabled_state() & 6) != 6) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    int avx2 = b >> 5 & 1;
    int avx512 = (b >> 16 & 1) && (b >> 17 & 1) && (b >> 30 & 1) && (b >> 31 & 1);
    int vnni = c >> 11 & 1;
    if (kernels == &kernels_avx2) return avx2;
    if (kernels == &kernels_avx512vnni)
        return avx512 && vnni && (enabled_state() & 0xe6) == 0xe6;
    uint32_t most = a;
    return avx2 && most >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

static const kernel_set *const SETS[] = {&kernels_avx512vnni, &kernels_avxvnni, &kernels_avx2,
                                         &kernels_portable};

#elif defined(__aarch64__)

#if defined(__linux__)
#include <sys/auxv.h>
static int can_run(const kernel_set *kernels) {
    if (kernels == &kernels_neon) return getauxval(AT_HWCAP) >> 20 & 1;  /* HWCAP_ASIMDDP */
    if (kernels == &kernels_i8mm) return getauxval(AT_HWCAP2) >> 13 & 1; /* HWCAP2_I8MM */
    return 1;
}
#elif defined(__APPLE__)
#include <sys/sysctl.h>
static int has(const char *name) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, NULL, 0) == 0 && value;
}
static int can_run(const kernel_set *kernels) {
    if (kernels == &kernels_neon) return has("hw.optional.arm.FEAT_DotProd");
    if (kernels == &kernels_i8mm) return has("hw.optional.arm.FEAT_I8MM");
    return 1;
}
#else
#include <windows.h>
static int can_run(const kernel_set *kernels) {
    if (kernels == &kernels_neon) return IsProcessorFeaturePresent(43); /* V82 dot product */
    return kernels == &kernels_portable;
}
#endif

static const kernel_set *const SETS[] = {&kernels_i8mm, &kernels_neon, &kernels_portable};

#else

static int can_run(const kernel_set *kernels) {
    (void)kernels;
    return 1;
}

static const kernel_set *const SETS[] = {&kernels_portable};

#endif

/* Give memory that was freed back to the system, where the C library keeps it: after a model was
 * loaded, a tenth of the process. */
MYNAH_EXPORT void mynah_trim(void) {
#if defined(__GLIBC__)
    malloc_trim(0);
#endif
}

MYNAH_EXPORT int32_t mynah_abi(void) { return MYNAH_ABI; }

/* The kernels of that name, if this machine can run them; NULL or "": the fastest that it can. */
MYNAH_EXPORT const kernel_set *mynah_kernels(const char *name) {
    for (size_t i = 0; i < sizeof SETS / sizeof *SETS; i++)
        if ((!name || !*name || !strcmp(name, SETS[i]->name)) && can_run(SETS[i])) return SETS[i];
    return NULL;
}

MYNAH_EXPORT const char *mynah_kernels_name(const kernel_set *kernels) { return kernels->name; }

/* One block of a matrix in eight bits to its place in the tiles: `rows` columns of the product, `size`
 * inner elements that lie `inner` bytes apart, rows `outer` bytes apart. `flip` makes signed codes
 * unsigned. `steps`: of a whole tile; the block begins at step `first`. What is left of the last step
 * and the last tile stays as it is (zero rows have zero scales). */
MYNAH_EXPORT void mynah_pack_bytes(const uint8_t *codes, int64_t rows, int64_t size, int64_t outer,
                                   int64_t inner, int32_t flip, int64_t steps, int64_t first,
                                   uint8_t *tiles) {
    uint32_t mask = flip ? 0x80808080u : 0;
    int64_t whole = inner == 1 ? size / 4 : 0; /* steps that are copied as they are */
    for (int64_t n = 0; n < rows; n += TILE) {
        int64_t columns = rows - n < TILE ? rows - n : TILE;
        uint8_t *place = tiles + (n / TILE * steps + first) * TILE * 4;
        const uint8_t *code = codes + n * outer;
        for (int64_t k = 0; k < whole; k++, place += TILE * 4)
            for (int64_t column = 0; column < columns; column++) {
                uint32_t four;
                memcpy(&four, code + column * outer + 4 * k, 4);
                four ^= mask;
                memcpy(place + 4 * column, &four, 4);
            }
        for (int64_t k = 4 * whole; k < size; k++)
            for (int64_t column = 0; column < columns; column++)
                place[(k / 4 - whole) * TILE * 4 + 4 * column + k % 4] =
                    (uint8_t)(code[column * outer + k * inner] ^ (mask & 0xff));
    }
}

/* The same in float32: rows `outer` and inner elements `inner` floats apart; `steps` and `first` count
 * inner elements. */
MYNAH_EXPORT void mynah_pack_floats(const float *matrix, int64_t rows, int64_t size, int64_t outer,
                                    int64_t inner, int64_t steps, int64_t first, float *tiles) {
    for (int64_t n = 0; n < rows; n++)
        for (int64_t k = 0; k < size; k++)
            tiles[(n / TILE * steps + first + k) * TILE + n % TILE] = matrix[n * outer + k * inner];
}
