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

/* What one task reads: the parts of the segments that belong to its branch and head. */
typedef struct {
    int64_t count; /* of segments */
    const uint8_t *units[MOST_SEGMENTS];
    /* Of each position: */
    float factors[MOST_SEGMENTS * POSITIONS]; /* scale of the key; zero where hidden */
    float shifts[MOST_SEGMENTS * POSITIONS];  /* exponent of the value's scale; far down where hidden */
    float inverse[MOST_SEGMENTS * POSITIONS]; /* one divided by the value's scale; zero where hidden */
} attend_past;

static int64_t attend_unit(const attend_step *s) {
    return POSITIONS * (s->size + TILE + 2 * (int64_t)sizeof(int16_t));
}

static int64_t attend_tasks(const int64_t *step, const call *c) {
    return ((const attend_step *)step)->heads * c->slots[SLOT_BRANCHES];
}

INLINE vf vf_exponents(const int16_t *p) { return vf_mul(vf_shorts(p), vf_all(1.0f / 256.0f)); }

INLINE vf vf_power(vf exponent) { return vf_exp(vf_mul(exponent, vf_all(0.693147181f))); }

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
    for (int64_t n = 0; n < past->count; n++) {
        const uint8_t *unit = (const uint8_t *)(intptr_t)slots[ATTEND_FIRST + 2 * n] + offset;
        int64_t ends = slots[ATTEND_FIRST + 2 * n + 1], begin = ends >> 32, end = ends & 0xffffffff;
        const int16_t *exponents = (const int16_t *)(unit + POSITIONS * (s->size + TILE));
        float *factor = past->factors + n * POSITIONS, *shift = past->shifts + n * POSITIONS;
        float *inverse = past->inverse + n * POSITIONS;
        past->units[n] = unit;
        for (int64_t i = 0; i < POSITIONS; i += LANES) {
            vf exponent = vf_exponents(exponents + POSITIONS + i);
            vf_store(factor + i, vf_power(vf_exponents(exponents + i)));
            vf_store(shift + i, exponent);
            vf_store(inverse + i, vf_power(vf_mul(exponent, vf_all(-1.0f))));
        }
        for (int64_t i = 0; i < POSITIONS; i++)
            if (i < begin || i >= end) factor[i] = inverse[i] = 0.0f, shift[i] = -1e30f;
    }
}

/* Scores of a few queries against the keys of some vectors of positions, in powers of two and with the
 * scales of the values in them; raises `peak`. */
INLINE void score_rows(int rows, int wide, const int8_t (*codes)[TILE + 16], const float *scale,
                       const int32_t *totals, const attend_past *past, int64_t first, int64_t size,
                       float (*scores)[MOST_SEGMENTS * POSITIONS], float (*peak)[LANES]) {
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
    const float *factors = past->factors + first * LANES, *shifts = past->shifts + first * LANES;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        vf most = vf_load(peak[r]), all = vf_all(scale[r]);
#pragma GCC unroll 8
        for (int v = 0; v < wide; v++) {
            vf score = vf_mul(vi_float(sum[r][v]), vf_load(factors + v * LANES));
            score = vf_fma(score, all, vf_load(shifts + v * LANES));
            most = vf_max(most, score);
            vf_store(scores[r] + (first + v) * LANES, score);
        }
        vf_store(peak[r], most);
    }
}

INLINE void score_all(int rows, const int8_t (*codes)[TILE + 16], const float *scale,
                      const int32_t *totals, const attend_past *past, int64_t size,
                      float (*scores)[MOST_SEGMENTS * POSITIONS], float (*peak)[LANES]) {
    int64_t vectors = past->count * PER_SEGMENT, first = 0;
    for (; first + WIDE <= vectors; first += WIDE)
        score_rows(rows, WIDE, codes, scale, totals, past, first, size, scores, peak);
    if (PER_SEGMENT % WIDE)
        for (; first < vectors; first++)
            score_rows(rows, 1, codes, scale, totals, past, first, size, scores, peak);
}

/* What a few rows of weights make of all values, to `sums`. */
INLINE void mix_rows(int rows, const uint8_t (*weights)[MOST_SEGMENTS * POSITIONS],
                     const attend_past *past, int64_t size, int32_t (*sums)[TILE]) {
    for (int first = 0; first < VECTORS; first += WIDE) {
        vi sum[GROUP][WIDE];
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
            for (int v = 0; v < WIDE; v++) sum[r][v] = vi_all(0);
        for (int64_t n = 0; n < past->count; n++) {
            const uint8_t *column = past->units[n] + POSITIONS * size + first * LANES * 4;
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
                                                  float (*scores)[MOST_SEGMENTS * POSITIONS],
                                                  float (*peak)[LANES]) {
    BY_ROWS(group, score_all(ROWS, codes, scale, totals, past, size, scores, peak))
}

static __attribute__((noinline)) void mix_group(int group,
                                                const uint8_t (*weights)[MOST_SEGMENTS * POSITIONS],
                                                const attend_past *past, int64_t size,
                                                int32_t (*sums)[TILE]) {
    BY_ROWS(group, mix_rows(ROWS, weights, past, size, sums))
}

INLINE vi weigh_vector(const attend_past *past, const float *scores, int64_t at, vf top, vf *sum) {
    vf p = vf_exp2_coarse(vf_sub(vf_load(scores + at), top));
    *sum = vf_fma(p, vf_load(past->inverse + at), *sum);
    return vf_round(p);
}

/* Scores of one row to weights in eight bits; the largest is 255. Returns what makes their mix of values
 * the result: a score holds the scale of its value, which the sum of the softmax must not. */
static float weigh(const attend_past *past, const float *scores, float peak, uint8_t *weights) {
    vf sum = vf_all(0.0f), top = vf_all(peak - 7.99435344f); /* log2(255) */
    int64_t i = 0, stop = past->count * POSITIONS;
    for (; i + 4 * LANES <= stop; i += 4 * LANES) {
        vi codes[4];
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            codes[v] = weigh_vector(past, scores, i + v * LANES, top, &sum);
        vi_store_bytes4(weights + i, codes);
    }
    for (; i < stop; i += LANES) vi_store_bytes(weights + i, weigh_vector(past, scores, i, top, &sum));
    return 1.0f / vf_sum(sum);
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

    float scores[GROUP][MOST_SEGMENTS * POSITIONS];
    uint8_t weights[GROUP][MOST_SEGMENTS * POSITIONS];
    int8_t codes[GROUP][TILE + 16];
    int32_t sums[GROUP][TILE];
    int64_t ahead = 0, groups = (frames + GROUP - 1) / GROUP;
    for (int64_t first = 0; first < frames; first += GROUP) {
        int group = (int)(frames - first < GROUP ? frames - first : GROUP);
        float scale[GROUP], peak[GROUP][LANES];
        int32_t totals[GROUP];
        for (int r = 0; r < group; r++) {
            scale[r] = quantise(rows + (first + r) * s->stride, s->size, codes[r], &totals[r]);
            scale[r] *= 1.44269504f; /* e to powers of two */
            vf_store(peak[r], vf_all(-INFINITY));
        }
        score_group(group, codes, scale, totals, &past, s->size, scores, peak);
        /* The cache is larger than those of the processor, and a head's part of a segment too short for
         * their own foresight: fetch what this thread is likely to need next. */
        for (int64_t stop = (first / GROUP + 1) * past.count / groups; ahead < stop; ahead++) {
            const uint8_t *next = past.units[ahead] + c->threads * attend_unit(s);
            for (int64_t i = 0; i < attend_unit(s); i += CACHE_LINE) __builtin_prefetch(next + i, 0, 2);
        }
        for (int r = 0; r < group; r++)
            scale[r] = weigh(&past, scores[r], vf_peak(vf_load(peak[r])), weights[r]);
        mix_group(group, (const uint8_t(*)[MOST_SEGMENTS * POSITIONS])weights, &past, s->size, sums);
        for (int r = 0; r < group; r++) {
            float *y = s->y + (branch * frames + first + r) * s->y_stride + head * s->size;
            for (int64_t i = 0; i < s->size; i += LANES)
                vf_store(y + i, vf_mul(vi_float(vi_load(&sums[r][i])), vf_all(scale[r])));
        }
    }
}
