/* Scores of attention and what the softmax makes of them, by AVX-512.
 *
 * Scores are words (16 bits): logarithms to base 2 in steps of 1 / 64, which is finer than what eight bits
 * leave of queries and keys. Powers of two then come from a table. Words lie as vpackssdw leaves them:
 * two vectors of positions side by side in every quarter. softmax_floats.h says what the functions do.
 */

typedef int16_t score;
#define SCORE_UNIT 64.0f /* of a power of two */
#define STEP_BITS 6
#define ONE 32767 /* as a share in 15 bits */
#define MOST_POSITIONS (MOST_SEGMENTS * POSITIONS + 64)
#define WORDS 32 /* of a vector */
#define COARSER 3
#define COARSEST 9 /* steps are 2 ** 9 as large, for scores that no trained network has */

/* What one task reads: the parts of the segments that belong to its branch and head. */
typedef struct {
    int64_t count; /* of segments */
    const uint8_t *units[MOST_SEGMENTS + 1];
    /* Of each position: */
    float factors[MOST_POSITIONS];     /* scale of the key */
    float shifts[MOST_POSITIONS];      /* zero; far down where hidden */
    int16_t values[MOST_POSITIONS];    /* scale of the value, a share of the largest; zero where hidden */
    int16_t exponents[MOST_POSITIONS]; /* its logarithm, in steps, rounded upwards */
    float largest;                     /* scale of a value */
} attend_past;

typedef struct {
    __m512i score, value; /* highest scores, and highest ones with the scales of values in them */
} row_peaks;

#define NO_PEAKS ((row_peaks){_mm512_set1_epi16(-32768), _mm512_set1_epi16(-32768)})

static inline int words_peak(__m512i a) {
    __m256i b = _mm256_max_epi16(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1));
    __m128i c = _mm_max_epi16(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
    c = _mm_minpos_epu16(_mm_xor_si128(c, _mm_set1_epi16(0x7fff))); /* least of unsigned words */
    return (int16_t)(_mm_cvtsi128_si32(c) ^ 0x7fff);
}

/* Positions of a segment that are not hidden. */
static inline __mmask16 seen_positions(int64_t ends) {
    return (__mmask16)((1u << (ends & 0xffffffff)) - (1u << (ends >> 32)));
}

static void softmax_read(attend_past *past, const int64_t *ends, int64_t scales) {
    const vi least = vi_all(-32768);
    vi peak = least;
    for (int64_t n = 0; n < past->count; n++) {
        const int16_t *exponents = (const int16_t *)(past->units[n] + scales);
        __mmask16 seen = seen_positions(ends[2 * n]);
        vi value = vi_shorts(exponents + POSITIONS);
        peak = _mm512_mask_max_epi32(peak, seen, peak, value);
        vf_store(past->factors + n * POSITIONS, vf_power(vf_exponents(exponents)));
        vf_store(past->shifts + n * POSITIONS, _mm512_mask_mov_ps(vf_all(-1e30f), seen, vf_all(0.0f)));
    }
    const vi top = vi_all(_mm512_reduce_max_epi32(peak));
    past->largest = _mm512_cvtss_f32(vf_power(vf_mul(vi_float(top), vf_all(EXPONENT_UNIT))));
    /* up to whole stores of weights, which are of four segments */
    for (int64_t n = 0; n < (past->count + 3) / 4 * 4; n += 2) {
        vi value[2], steps[2];
        for (int i = 0; i < 2; i++) {
            value[i] = vi_all(0), steps[i] = least;
            if (n + i >= past->count) continue;
            vi below = vi_shorts((const int16_t *)(past->units[n + i] + scales) + POSITIONS);
            below = _mm512_sub_epi32(below, top);
            vf share = vf_mul(vf_power(vf_mul(vi_float(below), vf_all(EXPONENT_UNIT))), vf_all(ONE));
            value[i] = _mm512_maskz_mov_epi32(seen_positions(ends[2 * (n + i)]), vf_round(share));
            below = _mm512_srai_epi32(vi_add(below, vi_all(3)), 2); /* of four units each */
            steps[i] = _mm512_mask_mov_epi32(least, seen_positions(ends[2 * (n + i)]), below);
        }
        vi_store(past->values + n * POSITIONS, _mm512_packs_epi32(value[0], value[1]));
        vi_store(past->exponents + n * POSITIONS, _mm512_packs_epi32(steps[0], steps[1]));
    }
}

INLINE void softmax_scores(int rows, int wide, vi (*sum)[WIDE], const float *scale, const attend_past *past,
                           int64_t first, score (*scores)[MOST_POSITIONS], row_peaks *peaks) {
    const float *factors = past->factors + first * LANES, *shifts = past->shifts + first * LANES;
    const int16_t *exponents = past->exponents + first * LANES;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        vf all = vf_all(scale[r]);
        __m512i words[WIDE], pair[2];
#pragma GCC unroll 8
        for (int v = 0; v < WIDE; v++)
            words[v] = v < wide ? vf_round(vf_fma(vf_mul(vi_float(sum[r][v]), vf_load(factors + v * LANES)), all,
                                                  vf_load(shifts + v * LANES)))
                                : _mm512_set1_epi32(-32768);
        __m512i most = peaks[r].score, value = peaks[r].value;
#pragma GCC unroll 8
        for (int p = 0; p < 2; p++) {
            pair[p] = _mm512_packs_epi32(words[2 * p], words[2 * p + 1]);
            vi_store(scores[r] + first * LANES + p * WORDS, pair[p]);
            most = _mm512_max_epi16(most, pair[p]);
            value = _mm512_max_epi16(value, _mm512_adds_epi16(pair[p], vi_load(exponents + p * WORDS)));
        }
        peaks[r].score = most, peaks[r].value = value;
    }
}

/* 32000 * 2 ** (-i / 64): the first one leaves some room below the largest word. */
static const int16_t powers[2 * WORDS] = {
    32000, 31655, 31314, 30977, 30643, 30313, 29987, 29664, 29344, 29028, 28715, 28406, 28100, 27797, 27498, 27202,
    26909, 26619, 26332, 26048, 25768, 25490, 25216, 24944, 24675, 24410, 24147, 23887, 23629, 23375, 23123, 22874,
    22627, 22384, 22143, 21904, 21668, 21435, 21204, 20975, 20749, 20526, 20305, 20086, 19870, 19656, 19444, 19235,
    19027, 18822, 18620, 18419, 18221, 18024, 17830, 17638, 17448, 17260, 17074, 16890, 16708, 16528, 16350, 16174,
};

static int softmax_fits(const row_peaks *peaks) {
    int top = words_peak(peaks->score);
    /* not so far down that the scales of values, 2^-16 and more, go below what words hold */
    return -32768 + 16 * 2 * WORDS < top && top < 32767;
}

static float softmax_weigh(const attend_past *past, const score *scores, const row_peaks *peaks, int coarse,
                           uint8_t *weights) {
    const vi low = vi_load(powers), high = vi_load(powers + WORDS), ones = _mm512_set1_epi16(1);
    const vi order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    int top = words_peak(peaks->score), below = coarse ? 0 : top - words_peak(peaks->value);
    /* Where values of large weights are small, the largest product is made 255 all the same; 200: more
     * than rounding adds to it. */
    int up = below >> STEP_BITS < 14 ? below >> STEP_BITS : 14;
    int gain = (255 << 15) / (powers[below % (2 * WORDS)] + 200);
    const __m128i higher = _mm_cvtsi32_si128(up), finer = _mm_cvtsi32_si128(coarse);
    const vi tops = _mm512_set1_epi16((int16_t)top), gains = _mm512_set1_epi16((int16_t)gain);
    const vi far = _mm512_set1_epi16((int16_t)(32767 >> coarse));
    const vi highest = _mm512_set1_epi16((int16_t)(32767 >> up)); /* rounding may have gone beyond */
    vi sum = vi_all(0);
    for (int64_t i = 0; i < past->count * POSITIONS; i += 2 * WORDS) {
        vi weight[2];
#pragma GCC unroll 2
        for (int p = 0; p < 2; p++) {
            vi steps = _mm512_subs_epi16(tops, vi_load(scores + i + p * WORDS));
            if (coarse) steps = _mm512_sll_epi16(_mm512_min_epi16(steps, far), finer);
            vi power = _mm512_permutex2var_epi16(low, steps, high);
            power = _mm512_srlv_epi16(power, _mm512_srli_epi16(steps, STEP_BITS));
            sum = dot2(sum, power, ones);
            power = _mm512_mulhrs_epi16(power, vi_load(past->values + i + p * WORDS));
            power = _mm512_sll_epi16(_mm512_min_epi16(power, highest), higher);
            weight[p] = _mm512_mulhrs_epi16(power, gains);
        }
        vi_store(weights + i, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(weight[0], weight[1])));
    }
    /* a share of ONE is a product of 2 ** 15 */
    float whole = (float)gain * (float)(1 << up) / 32768.0f * ((float)ONE / 32768.0f);
    return past->largest / (whole * (float)vi_sum(sum));
}
