/* The self test: random numbers, comparison, and what the library exports. */
#ifndef MYNAH_CHECK_H
#define MYNAH_CHECK_H

#define MYNAH_KERNELS kernels_check
#define MYNAH_NAME "check"
#include "kernels.c"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* What the library exports. */
typedef struct pool pool;
pool *mynah_pool_new(int32_t threads, int32_t lanes);
void mynah_pool_free(pool *);
void mynah_run(pool *, const kernel_set *, const int64_t *steps, int64_t count, const int64_t *slots);
const kernel_set *mynah_kernels(const char *name);
void mynah_pack_bytes(const uint8_t *codes, int64_t rows, int64_t size, int64_t outer, int64_t inner,
                      int32_t flip, int64_t steps, int64_t first, uint8_t *tiles);
void mynah_pack_floats(const float *matrix, int64_t rows, int64_t size, int64_t outer, int64_t inner,
                       int64_t steps, int64_t first, float *tiles);

static int failures;
static const kernel_set *kernels;
static pool *threads;

static uint64_t seed = 1;

static uint32_t random_bits(void) { /* xorshift (Marsaglia 2003) */
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)(seed >> 32);
}
static int64_t random_between(int64_t least, int64_t most) {
    return least + random_bits() % (most - least + 1);
}
static float random_float(void) { return (float)random_bits() / 2147483648.0f - 1.0f; }
static float *random_floats(int64_t count) {
    float *x = malloc(count * sizeof *x);
    for (int64_t i = 0; i < count; i++) x[i] = random_float();
    return x;
}

/* Numbers in half precision, and the nearest one, by the definition of IEEE 754. */
static double half_value(uint16_t half) {
    int exponent = half >> 10 & 31, part = half & 1023;
    double size = exponent ? ldexp(1024 + part, exponent - 25) : ldexp(part, -24);
    return half >> 15 ? -size : size;
}
static double nearest_half(double x) {
    int exponent = 0;
    frexp(x, &exponent);
    double step = ldexp(1.0, (exponent < -13 ? -13 : exponent) - 11);
    return fmax(-65504.0, fmin(65504.0, nearbyint(x / step) * step));
}
static uint16_t *random_halves(int64_t count) { /* below one; of all smaller magnitudes */
    uint16_t *x = malloc(count * sizeof *x);
    for (int64_t i = 0; i < count; i++)
        x[i] = (uint16_t)(random_bits() % 0x3c00 | (random_bits() & 0x8000));
    return x;
}

static void expect(const char *what, double found, double wanted, double tolerance) {
    if (fabs(found - wanted) <= tolerance) return;
    if (failures++ < 20)
        printf("%s: %s: %.9g, not %.9g\n", kernels->name, what, found, wanted);
}

static void run_step(const void *step, size_t size, const int64_t *slots) {
    int64_t words[STEP_WORDS] = {0};
    memcpy(words, step, size);
    mynah_run(threads, kernels, words, 1, slots);
}
#define RUN(step, slots) run_step(&(step), sizeof(step), slots)

#endif
