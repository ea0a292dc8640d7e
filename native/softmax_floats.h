/* Scores of attention and what the softmax makes of them, in float32.
 *
 * What a position's key and value are multiplied by comes in here as well: the scale of the key before
 * the softmax; that of the value together with its weight, as both become one number of eight bits.
 */

typedef float score;
#define SCORE_UNIT 1.0f /* of a power of two */
#define MOST_POSITIONS (MOST_SEGMENTS * POSITIONS + 64)
#define COARSER 0
#define COARSEST 0

/* What one task reads: the parts of the segments that belong to its branch and head. */
typedef struct {
    int64_t count; /* of segments */
    const uint8_t *units[MOST_SEGMENTS];
    /* Of each position: */
    float factors[MOST_POSITIONS]; /* scale of the key; zero where hidden */
    float shifts[MOST_POSITIONS];  /* exponent of the value's scale; far down where hidden */
    float inverse[MOST_POSITIONS]; /* one divided by the value's scale; zero where hidden */
} attend_past;

typedef struct {
    float score[LANES]; /* highest ones, with the scales of values in them */
} row_peaks;

#define NO_PEAKS no_peaks()
static inline row_peaks no_peaks(void) {
    row_peaks peaks;
    vf_store(peaks.score, vf_all(-INFINITY));
    return peaks;
}

/* Everything about the positions that does not depend on the query. `ends`: of every other word, see
 * ATTEND_FIRST; `scales`: where they begin in a unit. */
static void softmax_read(attend_past *past, const int64_t *ends, int64_t scales) {
    for (int64_t n = 0; n < past->count; n++) {
        int64_t begin = ends[2 * n] >> 32, end = ends[2 * n] & 0xffffffff;
        const int16_t *exponents = (const int16_t *)(past->units[n] + scales);
        float *factor = past->factors + n * POSITIONS, *shift = past->shifts + n * POSITIONS;
        float *inverse = past->inverse + n * POSITIONS;
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

/* Products of a few queries and `wide` vectors of positions from `first` on to scores; raises `peaks`.
 * `scale`: of the queries, times SCORE_UNIT. */
INLINE void softmax_scores(int rows, int wide, vi (*sum)[WIDE], const float *scale, const attend_past *past,
                           int64_t first, score (*scores)[MOST_POSITIONS], row_peaks *peaks) {
    const float *factors = past->factors + first * LANES, *shifts = past->shifts + first * LANES;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        vf most = vf_load(peaks[r].score), all = vf_all(scale[r]);
#pragma GCC unroll 8
        for (int v = 0; v < wide; v++) {
            vf found = vf_mul(vi_float(sum[r][v]), vf_load(factors + v * LANES));
            found = vf_fma(found, all, vf_load(shifts + v * LANES));
            most = vf_max(most, found);
            vf_store(scores[r] + (first + v) * LANES, found);
        }
        vf_store(peaks[r].score, most);
    }
}

/* Whether the scores of a row are what they should be; else they are asked for again, 2 ** coarse times
 * smaller. */
static int softmax_fits(const row_peaks *peaks) {
    (void)peaks;
    return 1;
}

INLINE vi weigh_vector(const attend_past *past, const float *scores, int64_t at, vf top, vf *sum) {
    vf p = vf_exp2_coarse(vf_sub(vf_load(scores + at), top));
    *sum = vf_fma(p, vf_load(past->inverse + at), *sum);
    return vf_round(p);
}

/* Scores of one row to weights in eight bits; the largest is 255. Returns what makes their mix of values
 * the result: a weight holds the scale of its value, which the sum of the softmax must not. */
static float softmax_weigh(const attend_past *past, const score *scores, const row_peaks *peaks, int coarse,
                           uint8_t *weights) {
    (void)coarse;
    vf sum = vf_all(0.0f), top = vf_all(vf_peak(vf_load(peaks->score)) - 7.99435344f); /* log2(255) */
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
