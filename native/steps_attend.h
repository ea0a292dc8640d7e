/* STEP_ATTEND: new frames attend to each other and to everything before, without a mask.
 *
 * Keys and values live in segments of TILE positions, in eight bits with a scale for each position
 * and head, packed so that products read them as tiles. For each layer, branch and head a segment
 * holds: keys [size / 4][position][4] unsigned, values [position / 4][64][4] signed, TILE scales of
 * keys, TILE scales of values. A segment that others read as well is never written.
 */

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
    return TILE * s->size + TILE * TILE + 2 * TILE * (int64_t)sizeof(float);
}

static int64_t attend_tasks(const int64_t *step, const call *c) {
    return ((const attend_step *)step)->heads * c->slots[SLOT_BRANCHES];
}

static void attend_append(const attend_step *s, uint8_t *unit, int64_t at, const float *k,
                          const float *v) {
    int8_t codes[TILE + 16];
    int32_t total;
    float *scales = (float *)(unit + TILE * s->size + TILE * TILE);
    int64_t size = s->size < TILE ? s->size : TILE; /* as the compiler cannot know */
    scales[at] = quantise(k, size, codes, &total);
    for (int64_t i = 0; i < size; i += 4) {
        uint32_t four;
        memcpy(&four, codes + i, 4);
        four ^= 0x80808080u; /* signed to unsigned */
        memcpy(unit + i * TILE + at * 4, &four, 4);
    }
    scales[TILE + at] = quantise(v, size, codes, &total);
    uint8_t *values = unit + TILE * size + at / 4 * TILE * 4 + at % 4;
    for (int64_t i = 0; i < size; i++) values[4 * i] = (uint8_t)codes[i];
}

/* Scores of a few queries against the keys of a segment, to `scores`; raises `peak`. */
INLINE void score_rows(int rows, const int8_t (*codes)[TILE + 16], const float *scale,
                       const int32_t *totals, const uint8_t *keys, int64_t size,
                       const float *key_scales, float *const *scores, float (*peak)[LANES]) {
    for (int first = 0; first < VECTORS; first += WIDE) {
        vi sum[GROUP][WIDE];
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
            for (int v = 0; v < WIDE; v++) sum[r][v] = vi_all(-128 * totals[r]);
        const uint8_t *column = keys + first * LANES * 4;
        for (int64_t k = 0; k < size; k += 4, column += TILE * 4) {
            vi key[WIDE];
#pragma GCC unroll 8
            for (int v = 0; v < WIDE; v++) key[v] = vi_load(column + v * LANES * 4);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                int32_t four;
                memcpy(&four, codes[r] + k, 4);
                vi all = vi_all(four);
#pragma GCC unroll 8
                for (int v = 0; v < WIDE; v++) sum[r][v] = dot4(sum[r][v], key[v], all);
            }
        }
        vf factor[WIDE];
#pragma GCC unroll 8
        for (int v = 0; v < WIDE; v++) factor[v] = vf_load(key_scales + (first + v) * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            vf most = vf_load(peak[r]), all = vf_all(scale[r]);
#pragma GCC unroll 8
            for (int v = 0; v < WIDE; v++) {
                vf score = vf_mul(vf_mul(vi_float(sum[r][v]), all), factor[v]);
                most = vf_max(most, score);
                vf_store(scores[r] + (first + v) * LANES, score);
            }
            vf_store(peak[r], most);
        }
    }
}

/* What a few rows of weights make of the values of all segments, to `sums`. */
INLINE void mix_rows(int rows, const uint8_t *const *weights, const int64_t *slots, int64_t offset,
                     int32_t (*sums)[TILE]) {
    int64_t count = slots[ATTEND_SEGMENTS];
    for (int first = 0; first < VECTORS; first += WIDE) {
        vi sum[GROUP][WIDE];
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
            for (int v = 0; v < WIDE; v++) sum[r][v] = vi_all(0);
        for (int64_t n = 0; n < count; n++) {
            const uint8_t *column = (const uint8_t *)(intptr_t)slots[ATTEND_FIRST + 2 * n] + offset;
            column += first * LANES * 4;
            for (int64_t k = n * TILE; k < (n + 1) * TILE; k += 4, column += TILE * 4) {
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
                                                  const uint8_t *keys, int64_t size,
                                                  const float *key_scales, float *const *scores,
                                                  float (*peak)[LANES]) {
    BY_ROWS(group,
            score_rows(ROWS, codes, scale, totals, keys, size, key_scales, scores, peak))
}

static __attribute__((noinline)) void mix_group(int group, const uint8_t *const *weights,
                                                const int64_t *slots, int64_t offset,
                                                int32_t (*sums)[TILE]) {
    BY_ROWS(group, mix_rows(ROWS, weights, slots, offset, sums))
}

#define MOST_SEGMENTS 256

/* Scores of one row to weights in eight bits, each multiplied by the scale of its value. Returns what
 * one step of the weights is worth. */
static float weigh(const attend_step *s, const int64_t *slots, int64_t offset, float *scores,
                   float peak, uint8_t *weights) {
    int64_t count = slots[ATTEND_SEGMENTS];
    vf sum = vf_all(0.0f), most = vf_all(0.0f), top = vf_all(peak);
    for (int64_t n = 0; n < count; n++) {
        const uint8_t *unit = (const uint8_t *)(intptr_t)slots[ATTEND_FIRST + 2 * n] + offset;
        const float *value_scales = (const float *)(unit + TILE * s->size + TILE * TILE) + TILE;
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) {
            float *score = scores + n * TILE + v * LANES;
            vf p = vf_exp_coarse(vf_sub(vf_load(score), top));
            sum = vf_add(sum, p);
            p = vf_mul(p, vf_load(value_scales + v * LANES));
            most = vf_max(most, p);
            vf_store(score, p);
        }
    }
    float largest = fmaxf(vf_peak(most), 1e-30f);
    vf up = vf_all(255.0f / largest);
    for (int64_t i = 0; i < count * TILE; i += LANES)
        vi_store_bytes(weights + i, vf_round(vf_mul(vf_load(scores + i), up)));
    return largest / 255.0f / vf_sum(sum);
}

static void attend_run(const int64_t *step, const call *c, int64_t task) {
    const attend_step *s = (const attend_step *)step;
    const int64_t *slots = c->slots + s->slot;
    int64_t frames = c->slots[SLOT_FRAMES], count = slots[ATTEND_SEGMENTS];
    int64_t branch = task / s->heads, head = task % s->heads, inner = s->heads * s->size;
    int64_t offset = ((s->layer * c->slots[SLOT_BRANCHES] + branch) * s->heads + head) * attend_unit(s);
    const float *rows = s->qkv + branch * frames * s->stride + head * s->size;

    /* The cache is larger than those of the processor, and a head's part of it too short for their own
     * foresight. */
    for (int64_t n = count - 1; n >= 0; n--) {
        const char *unit = (const char *)(intptr_t)slots[ATTEND_FIRST + 2 * n] + offset;
        for (int64_t i = 0; i < attend_unit(s); i += 64) __builtin_prefetch(unit + i, 0, 2);
    }
    int64_t segment = slots[ATTEND_SEGMENT], at = slots[ATTEND_POSITION];
    for (int64_t f = 0; f < frames; f++) {
        uint8_t *unit = (uint8_t *)(intptr_t)slots[ATTEND_FIRST + 2 * segment] + offset;
        const float *row = rows + f * s->stride;
        attend_append(s, unit, at, row + inner, row + 2 * inner);
        if (++at == TILE) at = 0, segment++;
    }

    float scores[GROUP][MOST_SEGMENTS * TILE];
    uint8_t weights[GROUP][MOST_SEGMENTS * TILE];
    int8_t codes[GROUP][TILE + 16];
    int32_t sums[GROUP][TILE];
    for (int64_t first = 0; first < frames; first += GROUP) {
        int group = (int)(frames - first < GROUP ? frames - first : GROUP);
        float scale[GROUP], peak[GROUP][LANES], hidden[GROUP][LANES];
        float *score[GROUP];
        const uint8_t *weight[GROUP];
        int32_t totals[GROUP];
        for (int r = 0; r < group; r++) {
            scale[r] = quantise(rows + (first + r) * s->stride, s->size, codes[r], &totals[r]);
            vf_store(peak[r], vf_all(-INFINITY));
            vf_store(hidden[r], vf_all(-INFINITY));
            weight[r] = weights[r];
        }
        for (int64_t n = 0; n < count; n++) {
            const uint8_t *unit = (const uint8_t *)(intptr_t)slots[ATTEND_FIRST + 2 * n] + offset;
            int64_t ends = slots[ATTEND_FIRST + 2 * n + 1], begin = ends >> 32;
            int64_t filled = ends & 0xffffffff;
            const float *key_scales = (const float *)(unit + TILE * s->size + TILE * TILE);
            for (int r = 0; r < group; r++) score[r] = scores[r] + n * TILE;
            /* hidden positions must not raise the peak */
            float(*part)[LANES] = begin || filled < TILE ? hidden : peak;
            score_group(group, codes, scale, totals, unit, s->size, key_scales, score, part);
            if (part == peak) continue;
            for (int r = 0; r < group; r++) {
                for (int64_t i = 0; i < begin; i++) score[r][i] = -INFINITY;
                for (int64_t i = filled; i < TILE; i++) score[r][i] = -INFINITY;
                vf most = vf_load(peak[r]);
                for (int v = 0; v < VECTORS; v++) most = vf_max(most, vf_load(score[r] + v * LANES));
                vf_store(peak[r], most);
            }
        }
        for (int r = 0; r < group; r++)
            scale[r] = weigh(s, slots, offset, scores[r], vf_peak(vf_load(peak[r])), weights[r]);
        mix_group(group, weight, slots, offset + TILE * s->size, sums);
        for (int r = 0; r < group; r++) {
            float *y = s->y + (branch * frames + first + r) * s->y_stride + head * s->size;
            for (int64_t i = 0; i < s->size; i += LANES)
                vf_store(y + i, vf_mul(vi_float(vi_load(&sums[r][i])), vf_all(scale[r])));
        }
    }
}
