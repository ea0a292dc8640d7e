/* STEP_ATTEND: new frames attend to each other and to everything before, without a mask.
 *
 * Keys and values live in segments of POSITIONS positions, in eight bits with a scale for each position
 * and head, packed so that products read them as tiles. For each layer, branch and head a segment
 * holds: keys [size / 4][position][4] unsigned, values [position / 4][64][4] signed, POSITIONS scales of
 * keys, POSITIONS scales of values. A scale is a power of two, of which 16 bits hold the exponent in
 * steps of 1 / 256. A segment that others read as well is never written.
 */

#define POSITIONS 16 /* a vector holds no more of them */
#define MOST_SEGMENTS 1024
#define PER_SEGMENT (POSITIONS / LANES) /* vectors */

typedef struct {
    int64_t kind;
    const float *qkv;    /* (rows, 3 * heads * size): queries (scaled), keys, values */
    int64_t stride;
    float *y;            /* (rows, heads * size) */
    int64_t y_stride;
    int64_t heads, size; /* size: a multiple of 16, at most 64 */
    int64_t layer;
    int64_t slot; /* of the first word of what is described below */
} attend_step;

/* In the slot table from `slot` on: the number of segments; the segment and the position where the new
 * frames begin; then for each segment its address, and where its positions begin (upper half) and end
 * (lower half), the new ones counted. */
enum { ATTEND_SEGMENTS, ATTEND_SEGMENT, ATTEND_POSITION, ATTEND_FIRST };

static int64_t attend_unit(const attend_step *s) {
    return POSITIONS * (s->size + TILE + 2 * (int64_t)sizeof(int16_t));
}

static int64_t attend_tasks(const int64_t *step, const call *c) {
    return ((const attend_step *)step)->heads * c->slots[SLOT_BRANCHES];
}

#define EXPONENT_UNIT (1.0f / 256.0f)

INLINE vf vf_exponents(const int16_t *p) { return vf_mul(vf_shorts(p), vf_all(EXPONENT_UNIT)); }

INLINE vf vf_power(vf exponent) { return vf_exp(vf_mul(exponent, vf_all(0.693147181f))); }

#if defined(MYNAH_AVX512VNNI)
#include "softmax_words.h"
#else
#include "softmax_floats.h"
#endif

/* The least exponent, in steps, whose scale lets `peak` fit into a signed byte; the logarithm is right to
 * 6.4e-4, so that the largest code is 127.06 before it is rounded. */
static int16_t scale_exponent(float peak) {
    uint32_t bits;
    peak = peak > 1e-18f ? peak : 1e-18f;
    memcpy(&bits, &peak, 4);
    float whole = (float)((int32_t)(bits >> 23) - 127), m = (float)(bits & 0x7fffff) * 0x1p-23f;
    float part = ((0.158248819f * m - 0.577129511f) * m + 1.41888069f) * m + 6.37038113e-4f;
    float exponent = (whole + part - 6.98868469f) * 256.0f;
    int32_t down = (int32_t)exponent; /* towards zero */
    return (int16_t)(down + ((float)down < exponent));
}

/* Rows of floats to signed bytes, and their scales to `exponents`. */
static void attend_codes(const float *x, int64_t stride, int64_t size, int64_t count,
                         int16_t *exponents, int8_t (*codes)[TILE]) {
    float peaks[POSITIONS], up[POSITIONS];
    int16_t found[POSITIONS] = {0};
    for (int64_t r = 0; r < count; r++) {
        vf peak = vf_all(0.0f);
        for (int64_t i = 0; i < size; i += LANES) peak = vf_max(peak, vf_abs(vf_load(x + r * stride + i)));
        peaks[r] = vf_peak(peak);
    }
    for (int64_t r = 0; r < count; r++) found[r] = scale_exponent(peaks[r]);
    for (int64_t r = 0; r < POSITIONS; r += LANES)
        vf_store(up + r, vf_power(vf_mul(vf_exponents(found + r), vf_all(-1.0f))));
    for (int64_t r = 0; r < count; r++)
        for (int64_t i = 0; i < size; i += LANES)
            vi_store_bytes(codes[r] + i, vf_round(vf_mul(vf_load(x + r * stride + i), vf_all(up[r]))));
    memcpy(exponents, found, count * sizeof *found);
}

/* `count` new keys and values to a unit, from position `at` on. */
static void attend_append(const attend_step *s, uint8_t *unit, int64_t at, int64_t count,
                          const float *k, const float *v) {
    int8_t codes[POSITIONS][TILE];
    int64_t size = s->size < TILE ? s->size : TILE; /* as the compiler cannot know */
    int16_t *exponents = (int16_t *)(unit + POSITIONS * (size + TILE));
    attend_codes(k, s->stride, size, count, exponents + at, codes);
    for (int64_t r = 0; r < count; r++)
        for (int64_t i = 0; i < size; i += 4) {
            uint32_t four;
            memcpy(&four, codes[r] + i, 4);
            four ^= 0x80808080u; /* signed to unsigned */
            memcpy(unit + i * POSITIONS + (at + r) * 4, &four, 4);
        }
    attend_codes(v, s->stride, size, count, exponents + POSITIONS + at, codes);
    for (int64_t r = 0; r < count;) {
        int64_t first = (at + r) % 4, stop = first + count - r < 4 ? first + count - r : 4;
        uint8_t *place = unit + POSITIONS * size + (at + r) / 4 * TILE * 4;
        uint32_t fours[TILE];
        memcpy(fours, place, sizeof fours);
        for (int64_t byte = first; byte < stop; byte++, r++)
            for (int64_t i = 0; i < size; i++) {
                uint32_t code = (uint8_t)codes[r][i];
                fours[i] = (fours[i] & ~(255u << 8 * byte)) | code << 8 * byte;
            }
        memcpy(place, fours, sizeof fours);
    }
}

/* Everything about the past, the new frames included, that does not depend on the query. */
static void attend_read(const attend_step *s, const int64_t *slots, int64_t offset, attend_past *past) {
    past->count = slots[ATTEND_SEGMENTS];
    for (int64_t n = 0; n < past->count; n++)
        past->units[n] = (const uint8_t *)(intptr_t)slots[ATTEND_FIRST + 2 * n] + offset;
    softmax_read(past, slots + ATTEND_FIRST + 1, POSITIONS * (s->size + TILE));
}

/* Scores of a few queries against the keys of some vectors of positions, in powers of two and with the
 * scales of the values in them; raises `peak`. */
INLINE void score_rows(int rows, int wide, const int8_t (*codes)[TILE + 16], const float *scale,
                       const int32_t *totals, const attend_past *past, int64_t first, int64_t size,
                       score (*scores)[MOST_POSITIONS], row_peaks *peaks) {
    vi sum[GROUP][WIDE];
    const uint8_t *column[WIDE];
#pragma GCC unroll 8
    for (int v = 0; v < wide; v++)
        column[v] = past->units[(first + v) / PER_SEGMENT] + (first + v) % PER_SEGMENT * LANES * 4;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < wide; v++) sum[r][v] = vi_all(-128 * totals[r]);
    for (int64_t k = 0; k < size; k += 4) {
        vi key[WIDE];
#pragma GCC unroll 8
        for (int v = 0; v < wide; v++) key[v] = vi_load(column[v] + k * POSITIONS);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, codes[r] + k, 4);
            vi all = vi_all(four);
#pragma GCC unroll 8
            for (int v = 0; v < wide; v++) sum[r][v] = dot4(sum[r][v], key[v], all);
        }
    }
    softmax_scores(rows, wide, sum, scale, past, first, scores, peaks);
}

INLINE void score_all(int rows, const int8_t (*codes)[TILE + 16], const float *scale,
                      const int32_t *totals, const attend_past *past, int64_t size,
                      score (*scores)[MOST_POSITIONS], row_peaks *peaks) {
    int64_t vectors = past->count * PER_SEGMENT, first = 0;
    for (; first + WIDE <= vectors; first += WIDE)
        score_rows(rows, WIDE, codes, scale, totals, past, first, size, scores, peaks);
#if LANES == POSITIONS /* else a segment is a whole number of such groups */
    switch (vectors - first) {
    case 1: score_rows(rows, 1, codes, scale, totals, past, first, size, scores, peaks); break;
    case 2: score_rows(rows, 2, codes, scale, totals, past, first, size, scores, peaks); break;
    case 3: score_rows(rows, 3, codes, scale, totals, past, first, size, scores, peaks); break;
    }
#endif
}

/* The cache is larger than those of the processor, and a head's part of a segment too short for their own
 * foresight: fetch a part of what this thread is likely to need next, in bytes behind what it reads. */
typedef struct {
    int64_t begin, end;
} ahead;

/* What a few rows of weights make of all values, to `sums`. */
INLINE void mix_rows(int rows, const uint8_t (*weights)[MOST_POSITIONS],
                     const attend_past *past, int64_t size, const ahead *next, int32_t (*sums)[TILE]) {
    for (int first = 0; first < VECTORS; first += WIDE) {
        vi sum[GROUP][WIDE];
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
            for (int v = 0; v < WIDE; v++) sum[r][v] = vi_all(0);
        for (int64_t n = 0; n < past->count; n++) {
            const uint8_t *column = past->units[n] + POSITIONS * size + first * LANES * 4;
            if (first == 0)
                for (int64_t i = next->begin; i < next->end; i += CACHE_LINE)
                    __builtin_prefetch(past->units[n] + i, 0, 2);
            for (int64_t k = n * POSITIONS; k < (n + 1) * POSITIONS; k += 4, column += TILE * 4) {
                vi value[WIDE];
#pragma GCC unroll 8
                for (int v = 0; v < WIDE; v++) value[v] = vi_load(column + v * LANES * 4);
#pragma GCC unroll 8
                for (int r = 0; r < rows; r++) {
                    int32_t four;
                    memcpy(&four, weights[r] + k, 4);
                    vi all = vi_all(four);
#pragma GCC unroll 8
                    for (int v = 0; v < WIDE; v++) sum[r][v] = dot4(sum[r][v], all, value[v]);
                }
            }
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
            for (int v = 0; v < WIDE; v++) vi_store(&sums[r][(first + v) * LANES], sum[r][v]);
    }
}

/* Functions of their own: inlined into the loop over rows, their sums would not stay in registers. */
static __attribute__((noinline)) void score_group(int group, const int8_t (*codes)[TILE + 16],
                                                  const float *scale, const int32_t *totals,
                                                  const attend_past *past, int64_t size,
                                                  score (*scores)[MOST_POSITIONS],
                                                  row_peaks *peaks) {
    BY_ROWS(group, score_all(ROWS, codes, scale, totals, past, size, scores, peaks))
}

static __attribute__((noinline)) void mix_group(int group,
                                                const uint8_t (*weights)[MOST_POSITIONS],
                                                const attend_past *past, int64_t size,
                                                const ahead *next, int32_t (*sums)[TILE]) {
    BY_ROWS(group, mix_rows(ROWS, weights, past, size, next, sums))
}

static void attend_run(const int64_t *step, const call *c, int64_t task) {
    const attend_step *s = (const attend_step *)step;
    const int64_t *slots = c->slots + s->slot;
    int64_t frames = c->slots[SLOT_FRAMES];
    int64_t branch = task / s->heads, head = task % s->heads, inner = s->heads * s->size;
    int64_t offset = ((s->layer * c->slots[SLOT_BRANCHES] + branch) * s->heads + head) * attend_unit(s);
    const float *rows = s->qkv + branch * frames * s->stride + head * s->size;

    int64_t segment = slots[ATTEND_SEGMENT], at = slots[ATTEND_POSITION];
    for (int64_t f = 0; f < frames; segment++, at = 0) {
        uint8_t *unit = (uint8_t *)(intptr_t)slots[ATTEND_FIRST + 2 * segment] + offset;
        int64_t count = POSITIONS - at < frames - f ? POSITIONS - at : frames - f;
        const float *row = rows + f * s->stride;
        attend_append(s, unit, at, count, row + inner, row + 2 * inner);
        f += count;
    }
    attend_past past;
    attend_read(s, slots, offset, &past);

    score scores[GROUP][MOST_POSITIONS];
    uint8_t weights[GROUP][MOST_POSITIONS];
    int8_t codes[GROUP][TILE + 16];
    int32_t sums[GROUP][TILE];
    int64_t groups = (frames + GROUP - 1) / GROUP;
    for (int64_t first = 0; first < frames; first += GROUP) {
        int group = (int)(frames - first < GROUP ? frames - first : GROUP), coarse = 0, fits;
        float scale[GROUP];
        int32_t totals[GROUP];
        row_peaks peaks[GROUP];
        for (int r = 0; r < group; r++) {
            scale[r] = quantise(rows + (first + r) * s->stride, s->size, codes[r], &totals[r]);
            scale[r] *= 1.44269504f * SCORE_UNIT; /* e to powers of two */
        }
        for (;; coarse += COARSER) {
            for (int r = 0; r < group; r++) peaks[r] = NO_PEAKS;
            score_group(group, codes, scale, totals, &past, s->size, scores, peaks);
            fits = 1;
            for (int r = 0; r < group; r++) fits &= softmax_fits(&peaks[r]);
            if (fits || coarse >= COARSEST) break;
            for (int r = 0; r < group; r++) scale[r] *= 1.0f / (1 << COARSER);
        }
        for (int r = 0; r < group; r++)
            scale[r] = softmax_weigh(&past, scores[r], &peaks[r], coarse, weights[r]);
        int64_t lines = attend_unit(s) / CACHE_LINE, done = first / GROUP;
        ahead next = {.begin = c->threads * attend_unit(s) + lines * done / groups * CACHE_LINE,
                      .end = c->threads * attend_unit(s) + lines * (done + 1) / groups * CACHE_LINE};
        mix_group(group, (const uint8_t(*)[MOST_POSITIONS])weights, &past, s->size, &next, sums);
        for (int r = 0; r < group; r++) {
            float *y = s->y + (branch * frames + first + r) * s->y_stride + head * s->size;
            for (int64_t i = 0; i < s->size; i += LANES)
                vf_store(y + i, vf_mul(vi_float(vi_load(&sums[r][i])), vf_all(scale[r])));
        }
    }
}
