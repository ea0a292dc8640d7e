/* Checks every set of kernels that this machine can run against plain loops in double precision, and
 * the threads. Prints what deviates; exit status 1 if something does. docs/develop/native.md tells
 * how to run it for other processors.
 */

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

/* Sizes of a product, and the rows of its input with padding. */
typedef struct {
    int64_t frames, branches, width, block, taps, columns, pad, blocks, rows, y_stride;
} sizes;

static sizes random_sizes(int quantised) {
    sizes z = {.frames = random_between(1, 30), .branches = random_between(1, 2)};
    z.width = 4 * random_between(1, 40), z.block = z.width;
    if (quantised && random_bits() & 1) z.block = 4 * random_between(1, z.width / 4);
    z.taps = random_between(1, 3), z.pad = z.taps - 1 + random_between(0, 1);
    z.columns = 16 * random_between(1, 12), z.y_stride = z.columns + random_between(0, 5);
    z.blocks = (z.width + z.block - 1) / z.block;
    z.rows = z.branches * (z.frames + z.pad);
    return z;
}

static product_step product_of(sizes z, int64_t kind, const float *bias, const float *addend, float *y) {
    return (product_step){.kind = kind, .bias = bias, .y = y, .y_stride = z.y_stride,
        .addend = addend, .addend_stride = z.columns, .width = z.width, .block = z.block,
        .taps = z.taps, .columns = z.columns, .x_pad = z.pad, .x_stride = z.width};
}

static void check_product(void) {
    sizes z = random_sizes(1);
    int64_t inner = z.taps * z.width, tiles = (z.columns + TILE - 1) / TILE, per_tap = 0;
    for (int64_t b = 0; b < z.width; b += z.block)
        per_tap += ((z.width - b < z.block ? z.width - b : z.block) + 3) / 4;
    int8_t *x = malloc(z.rows * z.width), *w = malloc(z.columns * inner);
    for (int64_t i = 0; i < z.rows * z.width; i++) x[i] = (int8_t)random_between(-127, 127);
    for (int64_t i = 0; i < z.columns * inner; i++) w[i] = (int8_t)random_between(-128, 127);
    float *scales = random_floats(z.rows * z.blocks), *bias = random_floats(tiles * TILE);
    float *addend = random_floats(z.frames * z.branches * z.columns);
    float *y = calloc(z.frames * z.branches * z.y_stride, sizeof *y);
    int32_t *totals = calloc(z.rows * z.blocks, sizeof *totals);
    for (int64_t r = 0; r < z.rows; r++)
        for (int64_t i = 0; i < z.width; i++)
            totals[r * z.blocks + i / z.block] += x[r * z.width + i];
    uint8_t *packed = calloc(tiles * z.taps * per_tap * TILE, 4);
    float *tile_scales = random_floats(tiles * z.taps * z.blocks * TILE);
    int64_t at = 0;
    for (int64_t tap = 0; tap < z.taps; tap++)
        for (int64_t b = 0; b < z.width; b += z.block) {
            int64_t size = z.width - b < z.block ? z.width - b : z.block;
            mynah_pack_bytes((uint8_t *)w + tap * z.width + b, z.columns, size, inner, 1, 1,
                             z.taps * per_tap, at, packed);
            at += (size + 3) / 4;
        }
    product_step s = product_of(z, STEP_PRODUCT, bias, addend, y);
    s.x = x, s.scales = scales, s.totals = totals, s.tiles = packed, s.tile_scales = tile_scales;
    int64_t slots[] = {z.frames, z.branches};
    RUN(s, slots);
    for (int64_t r = 0; r < z.frames * z.branches; r++)
        for (int64_t n = 0; n < z.columns; n++) {
            double sum = bias[n] + addend[r * z.columns + n], size = 1.0;
            for (int64_t tap = 0; tap < z.taps; tap++)
                for (int64_t i = 0; i < z.width; i++) {
                    int64_t row = padded_row(r, z.frames, z.pad) - (z.taps - 1) + tap;
                    int64_t block = tap * z.blocks + i / z.block;
                    double factor = (double)scales[row * z.blocks + i / z.block] *
                        tile_scales[(n / TILE * z.taps * z.blocks + block) * TILE + n % TILE];
                    double part = factor * x[row * z.width + i] * w[n * inner + tap * z.width + i];
                    sum += part, size += fabs(part);
                }
            expect("product", y[r * z.y_stride + n], sum, 1e-6 * size);
        }
    free(x), free(w), free(scales), free(bias), free(addend), free(y), free(totals), free(packed);
    free(tile_scales);
}

static void check_exact(void) {
    sizes z = random_sizes(0);
    int64_t inner = z.taps * z.width, tiles = (z.columns + TILE - 1) / TILE;
    float *x = random_floats(z.rows * z.width), *w = random_floats(z.columns * inner);
    float *packed = calloc(tiles * inner * TILE, sizeof *packed), *bias = random_floats(tiles * TILE);
    float *y = calloc(z.frames * z.branches * z.y_stride, sizeof *y);
    mynah_pack_floats(w, z.columns, inner, inner, 1, inner, 0, packed);
    product_step s = product_of(z, STEP_EXACT, bias, NULL, y);
    s.x = x, s.tiles = packed;
    int64_t slots[] = {z.frames, z.branches};
    RUN(s, slots);
    for (int64_t r = 0; r < z.frames * z.branches; r++)
        for (int64_t n = 0; n < z.columns; n++) {
            double sum = bias[n];
            const float *row = x + (padded_row(r, z.frames, z.pad) - (z.taps - 1)) * z.width;
            for (int64_t i = 0; i < inner; i++) sum += (double)row[i] * w[n * inner + i];
            expect("exact product", y[r * z.y_stride + n], sum, 1e-4);
        }
    free(x), free(w), free(packed), free(bias), free(y);
}

static double activation(double x, int64_t act) {
    switch (act) {
    case ACT_MISH: return x * tanh(log1p(exp(x)));
    case ACT_GELU: return x * 0.5 * (1.0 + erf(x / sqrt(2.0)));
    case ACT_GELU_TANH: return x * 0.5 * (1.0 + tanh(sqrt(2.0 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
    case ACT_SILU: case ACT_SILU_GATE: return x / (1.0 + exp(-x));
    default: return x;
    }
}

/* Rows in codes are what was computed in floats, to half a step. */
static void check_codes(const rows_step *s, const float *y, int64_t count) {
    int64_t blocks = (s->width + s->block - 1) / s->block;
    for (int64_t r = 0; r < count; r++)
        for (int64_t b = 0; b < blocks; b++) {
            int32_t total = 0;
            float scale = s->scales[r * blocks + b];
            int64_t stop = (b + 1) * s->block < s->width ? (b + 1) * s->block : s->width;
            for (int64_t i = b * s->block; i < stop; i++) {
                int8_t code = s->codes[r * s->width + i];
                total += code;
                expect("code", scale * code, y[r * s->width + i], 0.501 * scale);
            }
            expect("total", s->totals[r * blocks + b], total, 0);
        }
}

static void check_rows(int64_t act) {
    int64_t frames = random_between(1, 20), branches = random_between(1, 2), count = frames * branches;
    int64_t width = 16 * random_between(1, 20), wide = act == ACT_SILU_GATE ? 2 * width : width;
    int64_t block = random_bits() & 1 ? width : 16 * random_between(1, width / 16);
    int64_t blocks = (width + block - 1) / block, norm = act == ACT_SILU_GATE ? 0 : random_bits() % 3;
    float *x = random_floats(count * wide), *addend = random_floats(count * wide);
    for (int64_t i = 0; i < count * wide; i++) x[i] *= 8.0f;
    float *gain = random_floats(width), *bias = random_floats(width), *shift = random_floats(width);
    float *y = calloc(count * width, sizeof *y), *scales = calloc(count * blocks, sizeof *scales);
    int32_t *totals = calloc(count * blocks, sizeof *totals);
    int8_t *codes = calloc(count, width);
    rows_step s = {.kind = STEP_ROWS, .x = x, .x_stride = wide, .epsilon = 1e-5, .act = act,
        .gain = norm ? gain : NULL, .bias = norm == 2 ? bias : NULL, .shift_slot = 2, .y = y,
        .y_stride = width, .codes = codes, .scales = scales, .totals = totals, .width = width,
        .block = block};
    if (act != ACT_SILU_GATE) s.addend = addend, s.addend_stride = width;
    int64_t slots[] = {frames, branches, (int64_t)(intptr_t)shift};
    RUN(s, slots);
    for (int64_t r = 0; r < count; r++) {
        double mean = 0.0, square = 0.0;
        const float *row = x + r * wide, *more = addend + r * wide;
        for (int64_t i = 0; i < width; i++) mean += norm == 2 ? (row[i] + more[i]) / width : 0.0;
        for (int64_t i = 0; i < width; i++) square += pow(row[i] + more[i] - mean, 2.0) / width;
        for (int64_t i = 0; i < width; i++) {
            double value = row[i] + (s.addend ? more[i] : 0.0f);
            if (norm) value = (value - mean) / sqrt(square + 1e-5) * gain[i];
            if (norm == 2) value += bias[i];
            value = activation(value, act) * (act == ACT_SILU_GATE ? row[width + i] : 1.0f) + shift[i];
            expect("row", y[r * width + i], value, 1e-5 + 2e-6 * fabs(value));
        }
    }
    check_codes(&s, y, count);
    free(x), free(addend), free(gain), free(bias), free(shift), free(y), free(scales), free(totals);
    free(codes);
}

/* Softmax of scores times values, for one query. */
static void plain_attention(const double *scores, int64_t count, const float *values, int64_t stride,
                            int64_t size, double *y) {
    double peak = -INFINITY, sum = 0.0;
    memset(y, 0, size * sizeof *y);
    for (int64_t i = 0; i < count; i++) peak = fmax(peak, scores[i]);
    for (int64_t i = 0; i < count; i++) {
        double weight = exp(scores[i] - peak);
        sum += weight;
        for (int64_t k = 0; k < size; k++) y[k] += weight * values[i * stride + k];
    }
    for (int64_t k = 0; k < size; k++) y[k] /= sum;
}

/* Frames in two calls; the first positions of the second one are hidden from it. */
static void check_attend(void) {
    enum { SEGMENTS = 15 };
    int64_t heads = random_between(1, 3), size = 16 * random_between(1, 4), branches = 2;
    int64_t inner = heads * size, before = random_between(1, 150), now = random_between(1, 90);
    int64_t hidden = random_between(0, before < POSITIONS ? before - 1 : POSITIONS - 1), all = before + now;
    float *qkv = random_floats(branches * all * 3 * inner), *y = calloc(branches * now * inner, 4);
    attend_step s = {.kind = STEP_ATTEND, .stride = 3 * inner, .y = y, .y_stride = inner,
        .heads = heads, .size = size, .slot = SLOT_FIRST};
    float *memory[SEGMENTS], *part = malloc(branches * all * 3 * inner * sizeof *part);
    for (int i = 0; i < SEGMENTS; i++) memory[i] = calloc(branches * heads * attend_unit(&s), 1);
    for (int64_t first = 0; first < all; first += before) {
        int64_t count = first ? now : before, stop = first + count;
        int64_t slots[SLOT_FIRST + ATTEND_FIRST + 2 * SEGMENTS] = {count, branches};
        int64_t *words = slots + SLOT_FIRST;
        words[ATTEND_SEGMENTS] = (stop + POSITIONS - 1) / POSITIONS;
        words[ATTEND_SEGMENT] = first / POSITIONS, words[ATTEND_POSITION] = first % POSITIONS;
        for (int64_t i = 0; i < words[ATTEND_SEGMENTS]; i++) {
            int64_t begin = i == 0 && first ? hidden : 0;
            words[ATTEND_FIRST + 2 * i] = (int64_t)(intptr_t)memory[i];
            words[ATTEND_FIRST + 2 * i + 1] =
                begin << 32 | (stop - i * POSITIONS < POSITIONS ? stop - i * POSITIONS : POSITIONS);
        }
        for (int64_t b = 0; b < branches; b++)
            memcpy(part + b * count * 3 * inner, qkv + (b * all + first) * 3 * inner,
                   count * 3 * inner * sizeof *part);
        float *unused = calloc(branches * count * inner, sizeof *unused);
        s.qkv = part, s.y = first ? y : unused;
        RUN(s, slots);
        free(unused);
        if (first) break;
    }
    double *scores = malloc(all * sizeof *scores), wanted[TILE];
    for (int64_t row = 0; row < branches * now * heads; row++) {
        int64_t head = row % heads, f = row / heads % now, b = row / heads / now;
        const float *keys = qkv + b * all * 3 * inner + inner + head * size;
        const float *query = keys - inner + (before + f) * 3 * inner;
        for (int64_t i = hidden; i < all; i++) {
            scores[i] = 0.0;
            for (int64_t k = 0; k < size; k++) scores[i] += (double)query[k] * keys[i * 3 * inner + k];
        }
        plain_attention(scores + hidden, all - hidden, keys + inner + hidden * 3 * inner, 3 * inner,
                        size, wanted);
        for (int64_t k = 0; k < size; k++)
            expect("attention", y[(b * now + f) * inner + head * size + k], wanted[k], 0.03);
    }
    for (int i = 0; i < SEGMENTS; i++) free(memory[i]);
    free(qkv), free(y), free(part), free(scores);
}

static void check_causal(void) {
    enum { SEGMENTS = 4 };
    int64_t share = random_between(1, 3), key_heads = random_between(1, 2), heads = share * key_heads;
    int64_t size = 16 * random_between(1, 8), count = random_between(1, SEGMENTS * TILE);
    int64_t tiles = (size + TILE - 1) / TILE, unit = TILE * size + tiles * TILE * TILE;
    int64_t stride = (heads + 2 * key_heads) * size;
    float *qkv = random_floats(count * stride), *y = calloc(count * heads * size, sizeof *y);
    float *cosine = malloc(count * size / 2 * sizeof *cosine), *sine = malloc(count * size / 2 * 4);
    for (int64_t i = 0; i < count * size / 2; i++)
        cosine[i] = cosf(0.1f * (float)i), sine[i] = sinf(0.1f * (float)i);
    int64_t segments[SEGMENTS];
    for (int i = 0; i < SEGMENTS; i++)
        segments[i] = (int64_t)(intptr_t)calloc(key_heads * unit, sizeof(float));
    causal_step s = {.kind = STEP_APPEND, .qkv = qkv, .stride = stride, .y = y,
        .y_stride = heads * size, .heads = heads, .key_heads = key_heads, .size = size,
        .slot = SLOT_FIRST, .scale = 0.5};
    int64_t slots[] = {count, 1, (int64_t)(intptr_t)cosine, (int64_t)(intptr_t)sine, 0,
                       (int64_t)(intptr_t)segments};
    RUN(s, slots);
    s.kind = STEP_CAUSAL;
    RUN(s, slots);
    double *scores = malloc(count * sizeof *scores), wanted[MOST_SIZE];
    for (int64_t f = 0; f < count; f++)
        for (int64_t head = 0; head < heads; head++) {
            const float *query = qkv + f * stride + head * size;
            const float *keys = qkv + (heads + head / share) * size;
            for (int64_t i = 0; i <= f; i++) {
                scores[i] = 0.0;
                for (int64_t k = 0; k < size / 2; k++) { /* the angle between the two positions */
                    const float *cf = cosine + f * size / 2 + k, *sf = sine + f * size / 2 + k;
                    const float *ci = cosine + i * size / 2 + k, *si = sine + i * size / 2 + k;
                    const float *key = keys + i * stride + k;
                    double q1 = (double)query[k] * *cf - (double)query[size / 2 + k] * *sf;
                    double q2 = (double)query[size / 2 + k] * *cf + (double)query[k] * *sf;
                    double k1 = (double)key[0] * *ci - (double)key[size / 2] * *si;
                    double k2 = (double)key[size / 2] * *ci + (double)key[0] * *si;
                    scores[i] += (q1 * k1 + q2 * k2) * 0.5;
                }
            }
            plain_attention(scores, f + 1, keys + key_heads * size, stride, size, wanted);
            for (int64_t k = 0; k < size; k++)
                expect("causal", y[(f * heads + head) * size + k], wanted[k], 2e-5);
        }
    for (int i = 0; i < SEGMENTS; i++) free((void *)(intptr_t)segments[i]);
    free(qkv), free(y), free(cosine), free(sine), free(scores);
}

/* The threads: callers that take turns, each with a step whose tasks add 1 to a row. */
enum { CALLERS = 3, ROUNDS = 300, STEPS = 5, COUNTED = 16 };

static void *call_often(void *unused) {
    (void)unused;
    float rows[40 * COUNTED] = {0}, one[COUNTED];
    for (int i = 0; i < COUNTED; i++) one[i] = 1.0f;
    int64_t words[STEPS][STEP_WORDS] = {{0}};
    rows_step s = {.kind = STEP_ROWS, .x = rows, .x_stride = COUNTED, .shift_slot = 2, .y = rows,
        .y_stride = COUNTED, .width = COUNTED, .block = COUNTED};
    for (int n = 0; n < STEPS; n++) memcpy(words[n], &s, sizeof s);
    for (int64_t round = 1; round <= ROUNDS; round++) {
        int64_t slots[] = {round % 40, 1, (int64_t)(intptr_t)one};
        float before[40];
        for (int r = 0; r < 40; r++) before[r] = rows[r * COUNTED];
        mynah_run(threads, kernels, words[0], STEPS, slots);
        for (int r = 0; r < 40; r++)
            expect("rounds", rows[r * COUNTED], before[r] + (r < round % 40 ? STEPS : 0), 0);
    }
    return NULL;
}

static void check_threads(void) {
    pthread_t callers[CALLERS];
    for (int i = 0; i < CALLERS; i++) pthread_create(&callers[i], NULL, call_often, NULL);
    for (int i = 0; i < CALLERS; i++) pthread_join(callers[i], NULL);
}

/* The argument: how many random cases of each kind. */
int main(int count, char **arguments) {
    int rounds = count > 1 ? atoi(arguments[1]) : 12;
    static const char *const names[] = {"portable", "avx2", "avxvnni", "avx512vnni", "neon", "i8mm"};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        kernels = mynah_kernels(names[n]);
        if (!kernels) continue;
        for (int size = 1; size <= 4; size += 3) {
            threads = mynah_pool_new(size, 2);
            for (int round = 0; round < rounds; round++) {
                check_product();
                check_exact();
                check_rows(round % (ACT_SILU_GATE + 1));
                check_attend();
                check_causal();
            }
            check_threads();
            mynah_pool_free(threads);
        }
        printf("%s: %s\n", kernels->name, failures ? "deviates" : "as computed in double precision");
    }
    return failures != 0;
}
